{{- /* Every template asks for a name, and helm renders tests/test.yaml first: so this is said before a template stumbles
over a value that an older chart did not have. `networkPolicy` stands for all that came with it. */ -}}
{{- define "finetune-operator.name" -}}
{{- if not (hasKey .Values "networkPolicy") }}
{{- fail "the values are those of an older version of this chart: instead of --reuse-values say --reset-then-reuse-values, which keeps what you have set and takes the new defaults for the rest." }}
{{- end }}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "finetune-operator.fullname" -}}
{{- $name := include "finetune-operator.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "finetune-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "finetune-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "finetune-operator.labels" -}}
{{ include "finetune-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "finetune-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "finetune-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "finetune-operator.trainerServiceAccountName" -}}
{{- $account := .Values.trainer.serviceAccount }}
{{- if $account.name }}{{ $account.name }}{{ else if $account.create }}finetune-trainer{{ end }}
{{- end }}

{{- /* What the operator may do where it watches: no secrets, no nodes, nothing that is not named here. */ -}}
{{- define "finetune-operator.rules" -}}
- apiGroups: [finetune.dev]
  resources: [finetunejobs]
  verbs: [get, list, watch, delete]
- apiGroups: [finetune.dev]
  resources: [finetunejobs/status]
  verbs: [patch, update]
- apiGroups: [finetune.dev]
  resources: [finetunejobs/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [pods, configmaps]
  verbs: [create, get, list, watch, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- if .Values.networkPolicy.enabled }}
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [create, get]
{{- end }}
{{- end }}

{{- /* The pods that may read metrics, as NetworkPolicyPeers in JSON. */ -}}
{{- define "finetune-operator.prometheusPeers" -}}
{{- $selectors := .Values.networkPolicy.prometheus }}
{{- $pods := $selectors.podSelector }}
{{- if not (or $selectors.namespaceSelector $pods) }}
{{- $pods = dict "matchLabels" (dict "app.kubernetes.io/name" "prometheus") }}
{{- end }}
{{- list (dict "namespaceSelector" $selectors.namespaceSelector "podSelector" $pods) | toJson }}
{{- end }}

{{- /* Fail where a kind of prometheus-operator is wanted and the cluster lacks it. Only a cluster that was asked names
kinds, such as apps/v1/Deployment; `helm template` without --api-versions knows none and is let through. */ -}}
{{- define "finetune-operator.requireMonitoring" -}}
{{- $versions := .root.Capabilities.APIVersions }}
{{- $wanted := printf "monitoring.coreos.com/v1/%s" .kind }}
{{- if and ($versions.Has "apps/v1/Deployment") (not ($versions.Has $wanted)) }}
{{- fail (printf "%s is true, but this cluster has no %s: install the CRDs of prometheus-operator first, or leave %s false." .value .kind .value) }}
{{- end }}
{{- end }}
