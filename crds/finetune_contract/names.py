"""Every string and number that two rooms must agree on: labels, annotations, paths, ports, reasons.

Constants only. Names of Kubernetes objects are built here too, so that no key is ever put together by hand elsewhere.
"""

from typing import Final

GROUP: Final = "finetune.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "FineTuneJob"
PLURAL: Final = "finetunejobs"
SINGULAR: Final = "finetunejob"
SHORT_NAME: Final = "ftj"
FIELD_MANAGER: Final = "finetune-operator"

# Labels and annotations on the objects that a job owns.
LABEL_JOB: Final = f"{GROUP}/job"
LABEL_JOB_UID: Final = f"{GROUP}/job-uid"
LABEL_ROLE: Final = f"{GROUP}/role"
LABEL_NODE_INDEX: Final = f"{GROUP}/node-index"
LABEL_INCARNATION: Final = f"{GROUP}/incarnation"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "finetune-operator"
LABEL_NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"  # set by Kubernetes itself on every namespace
LABEL_QUEUE: Final = "kueue.x-k8s.io/queue-name"
ANNOTATION_ATTEMPT: Final = f"{GROUP}/attempt"
ANNOTATION_STOP: Final = f"{GROUP}/stop"
ANNOTATION_FINISH: Final = f"{GROUP}/finish"

# Annotations by which a Prometheus without the prometheus-operator finds what to scrape.
ANNOTATION_SCRAPE: Final = "prometheus.io/scrape"
ANNOTATION_SCRAPE_PORT: Final = "prometheus.io/port"
ANNOTATION_SCRAPE_PATH: Final = "prometheus.io/path"

ROLE_TRAINER: Final = "trainer"
ROLE_PREPARE: Final = "prepare"

# Inside a trainer pod.
CONTAINER: Final = "trainer"
AGENT_PORT: Final = 8080
AGENT_PORT_NAME: Final = "http"
MASTER_PORT_BASE: Final = 29500
MASTER_PORT_COUNT: Final = 64
ENV_RUN_CONFIG: Final = "FINETUNE_RUN_CONFIG"
ENV_ANNOTATIONS_DIR: Final = "FINETUNE_ANNOTATIONS_DIR"
ENV_WORK_DIR: Final = "FINETUNE_WORK_DIR"
ENV_NODE_INDEX: Final = "FINETUNE_NODE_INDEX"
ENV_ROLE: Final = "FINETUNE_ROLE"
ENV_PORT: Final = "FINETUNE_PORT"
ENV_POD_IP: Final = "FINETUNE_POD_IP"
ENV_NODE_NAME: Final = "FINETUNE_NODE_NAME"
ENV_TERMINATION_LOG: Final = "FINETUNE_TERMINATION_LOG"
ENV_LOG_FORMAT: Final = "FINETUNE_LOG_FORMAT"
RESERVED_ENV_PREFIX: Final = "FINETUNE_"
RUN_CONFIG_DIR: Final = "/etc/finetune/run"
RUN_CONFIG_FILE: Final = "run.json"
ANNOTATIONS_DIR: Final = "/etc/finetune/annotations"
FILE_ATTEMPT: Final = "attempt"
FILE_STOP: Final = "stop"
FILE_FINISH: Final = "finish"
WORK_DIR: Final = "/var/lib/finetune"
PVC_DIR: Final = "/mnt/finetune"  # pvc://claim/path is mounted at PVC_DIR/claim
PATH_READY: Final = "/ready"
PATH_PROGRESS: Final = "/progress"
PATH_METRICS: Final = "/metrics"

# In the store, below <destination>.
PREPARED_FOLDER: Final = "prepared"
MODELS_FOLDER: Final = "models"
CHECKPOINTS_FOLDER: Final = "checkpoints"
PUBLISHED_FOLDER: Final = "published"
ADAPTER_FOLDER: Final = "adapter"
FILE_ATTEMPT_FENCE: Final = "attempt.json"
FILE_LEDGER: Final = "ledger.json"
FILE_OUTCOME: Final = "outcome.json"
FILE_MANIFEST: Final = "manifest.json"
FILE_PREPARED: Final = "prepared.json"
FILE_REPORT_JSON: Final = "report.json"
FILE_REPORT_HTML: Final = "report.html"
FILE_PUBLISHED_MANIFEST: Final = "finetune-manifest.json"

# Conditions (metav1.Condition types) of a FineTuneJob.
CONDITION_ACCEPTED: Final = "Accepted"
CONDITION_DATA_READY: Final = "DataReady"
CONDITION_QUOTA_RESERVED: Final = "QuotaReserved"
CONDITION_RUNNING: Final = "Running"
CONDITION_SUSPENDED: Final = "Suspended"
CONDITION_SUCCEEDED: Final = "Succeeded"
CONDITION_FAILED: Final = "Failed"
CONDITIONS: Final = (
    CONDITION_ACCEPTED,
    CONDITION_DATA_READY,
    CONDITION_QUOTA_RESERVED,
    CONDITION_RUNNING,
    CONDITION_SUSPENDED,
    CONDITION_SUCCEEDED,
    CONDITION_FAILED,
)


class Reason:
    """Reasons of conditions and events, in CamelCase as Kubernetes writes them."""

    ACCEPTED: Final = "Accepted"
    INVALID_SPEC: Final = "InvalidSpec"
    NOT_YET_SUPPORTED: Final = "NotYetSupported"
    PREPARING: Final = "Preparing"
    PREPARED: Final = "Prepared"
    PODS_STARTING: Final = "PodsStarting"
    PODS_CREATED: Final = "PodsCreated"
    ATTEMPT_STARTED: Final = "AttemptStarted"
    TRAINING: Final = "Training"
    EVALUATING: Final = "Evaluating"
    PUBLISHING: Final = "Publishing"
    CHECKPOINT_VERIFIED: Final = "CheckpointVerified"
    PUBLISHED: Final = "Published"
    FINISHED: Final = "Finished"
    SUSPENDED: Final = "Suspended"
    GATE_FAILED: Final = "GateFailed"
    USER_ERROR: Final = "UserError"
    DATA_ERROR: Final = "DataError"
    MODEL_ERROR: Final = "ModelError"
    STORAGE_ERROR: Final = "StorageError"
    OUT_OF_MEMORY: Final = "OutOfMemory"
    NUMERIC_ERROR: Final = "NumericError"
    HANG: Final = "HangDetected"
    CODE_CRASH: Final = "CodeCrash"
    POD_LOST: Final = "PodLost"
    DEADLINE_EXCEEDED: Final = "DeadlineExceeded"
    SUSPENDING: Final = "Suspending"
    RESUMED: Final = "Resumed"
    BUDGET_EXCEEDED: Final = "BudgetExceeded"
    BACKOFF_LIMIT_EXCEEDED: Final = "BackoffLimitExceeded"
    BACKING_OFF: Final = "BackingOff"
    POD_DRAINED: Final = "PodDrained"
    NODES_GROWN: Final = "NodesGrown"
    NODES_SHRUNK: Final = "NodesShrunk"
    NODE_AVOIDED: Final = "NodeAvoided"
    STRAGGLER_DETECTED: Final = "StragglerDetected"
    MICRO_BATCH_REDUCED: Final = "MicroBatchReduced"
    STEPS_SKIPPED: Final = "StepsSkipped"
    ATTEMPT_FAILED: Final = "AttemptFailed"
    ATTEMPT_STOPPED: Final = "AttemptStopped"
    POD_REJECTED: Final = "PodRejected"


def object_name(job: str, uid: str, suffix: str) -> str:
    """Name of an object that a job owns: at most 63 characters, and unique to this uid of the job.

    The job's name is cut, never the uid: a job deleted and applied again does not meet its past.
    """
    tail = f"-{uid[:5]}-{suffix}"
    return job[: 63 - len(tail)].rstrip("-.") + tail


def pod_name(job: str, uid: str, role: str, node_index: int, incarnation: int) -> str:
    """Name of the pod of one node: creating it twice is a conflict and not a double."""
    suffix = f"{node_index}-{incarnation}" if role == ROLE_TRAINER else f"{role}-{incarnation}"
    return object_name(job, uid, suffix)


def config_map_name(job: str, uid: str) -> str:
    """Name of the ConfigMap that holds the resolved RunConfig."""
    return object_name(job, uid, "run")


def network_policy_name(job: str, uid: str) -> str:
    """Name of the NetworkPolicy of a job's pods."""
    return object_name(job, uid, "network")


def master_port(attempt: int) -> int:
    """The rendezvous port moves with the attempt, so that a stale rank cannot join."""
    return MASTER_PORT_BASE + attempt % MASTER_PORT_COUNT


def job_folder(name: str, uid: str) -> str:
    """Folder of one job below its destination; a local run has no uid and uses its name alone."""
    return f"{name}-{uid[:8]}" if uid else name


def checkpoint_folder(step: int, attempt: int) -> str:
    """Folder of one checkpoint: nothing of another attempt is ever written into it."""
    return f"step-{step:08d}-a{attempt}"
