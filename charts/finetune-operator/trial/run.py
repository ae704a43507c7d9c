"""Apply the test's job, follow it to its end and say how it went: `run.py FILE`, the job as JSON.

Run by `helm test` in the operator's image. The job belongs to this pod: it goes when the pod is deleted.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from kubernetes import client, config

KIND = {"group": "finetune.dev", "version": "v1alpha1", "plural": "finetunejobs"}
PATIENCE_SECONDS = 840
LAST_LINES = 40


def own(job: dict[str, Any]) -> dict[str, Any]:
    """The job, owned by this pod."""
    owner = {"apiVersion": "v1", "kind": "Pod", "name": os.environ["POD_NAME"], "uid": os.environ["POD_UID"]}
    return {**job, "metadata": {**job["metadata"], "ownerReferences": [owner]}}


def remove_earlier(jobs: client.CustomObjectsApi, place: dict[str, str]) -> None:
    """Remove the job of an earlier test, which a pod that is gone has left."""
    while True:
        try:
            jobs.delete_namespaced_custom_object(**place)
        except client.ApiException as error:
            if error.status == 404:
                return
            raise
        time.sleep(1)


def follow(jobs: client.CustomObjectsApi, place: dict[str, str]) -> dict[str, Any]:
    """The status at the end, or when patience is over; every phase is printed as it comes."""
    began, seen = time.monotonic(), None
    while True:
        status: dict[str, Any] = jobs.get_namespaced_custom_object(**place).get("status", {})
        phase = status.get("phase", "Pending")
        if phase != seen:
            seen = phase
            print(f"{time.monotonic() - began:4.0f} s  {phase}", flush=True)
        if phase in ("Succeeded", "Failed") or time.monotonic() - began > PATIENCE_SECONDS:
            return status
        time.sleep(1)


def print_logs(namespace: str, name: str) -> None:
    """The last lines of the job's pods."""
    core = client.CoreV1Api()
    for pod in core.list_namespaced_pod(namespace, label_selector=f"finetune.dev/job={name}").items:
        print(f"--- {pod.metadata.name}: {pod.status.phase}")
        try:
            print(core.read_namespaced_pod_log(pod.metadata.name, namespace, tail_lines=LAST_LINES))
        except client.ApiException as error:
            print(f"no log: {error.reason}")


def main() -> None:
    """Exit 0 when the job has succeeded."""
    config.load_incluster_config()
    jobs, job = client.CustomObjectsApi(), json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
    place = {**KIND, "namespace": namespace, "name": name}
    remove_earlier(jobs, place)
    jobs.create_namespaced_custom_object(**KIND, namespace=namespace, body=own(job))
    status = follow(jobs, place)
    if status.get("phase") == "Succeeded":
        accuracy = status.get("evaluation", {}).get("test", {}).get("accuracy")
        print(f"FineTuneJob {namespace}/{name} succeeded: accuracy {accuracy} on rows that it never saw")
        return
    print_logs(namespace, name)
    print(json.dumps(status, indent=2))
    message = status.get("failure", {}).get("message") or f"it still was {status.get('phase', 'Pending')}"
    sys.exit(f"FineTuneJob {namespace}/{name} did not succeed: {message}")


if __name__ == "__main__":
    main()
