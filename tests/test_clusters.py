"""What docs/scaling.md says to clusters is what JAX's own detection reads there."""

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from jax._src.clusters.k8s_cluster import K8sCluster

from experiments.scratch import ScratchConfig
from mnistjax import cli

PAGE = (Path(__file__).parent.parent / "docs" / "scaling.md").read_text()
(TEXT,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S)
BY_KIND = {one["kind"]: one for one in yaml.safe_load_all(TEXT)}


class Api:
    """Kubernetes as it answers a pod of the page's Job; `asked` is what was wanted of it."""

    def __init__(self) -> None:
        self.asked: set[tuple[str, str, str]] = set()
        job, pod = BY_KIND["Job"], BY_KIND["Job"]["spec"]["template"]["spec"]
        name = job["metadata"]["name"]
        owner = SimpleNamespace(controller=True, kind="Job")
        labels = {"job-name": name}
        about = SimpleNamespace(name=f"{name}-0-x", labels=labels, owner_references=[owner])
        self._pod = SimpleNamespace(
            metadata=about, spec=SimpleNamespace(subdomain=pod.get("subdomain"))
        )
        self._job = SimpleNamespace(
            metadata=SimpleNamespace(name=name, labels={}),
            spec=SimpleNamespace(parallelism=job["spec"]["parallelism"]),
        )

    def list_namespaced_pod(self, namespace: str, field_selector: str) -> SimpleNamespace:
        self.asked.add(("", "pods", "list"))
        return SimpleNamespace(items=[self._pod])

    def list_namespaced_service(self, namespace: str) -> SimpleNamespace:
        self.asked.add(("", "services", "list"))
        return SimpleNamespace(items=[])

    def read_namespaced_job(self, name: str, namespace: str) -> SimpleNamespace:
        self.asked.add(("batch", "jobs", "get"))
        assert name == self._job.metadata.name
        return self._job


@pytest.fixture
def in_a_pod(monkeypatch):
    api, kubernetes = Api(), ModuleType("kubernetes")
    kubernetes.config = SimpleNamespace(load_incluster_config=lambda: None)  # type: ignore[attr-defined]
    errors = SimpleNamespace(ApiException=LookupError)
    kubernetes.client = SimpleNamespace(  # type: ignore[attr-defined]
        CoreV1Api=lambda: api, BatchV1Api=lambda: api, exceptions=errors
    )
    monkeypatch.setitem(sys.modules, "kubernetes", kubernetes)
    monkeypatch.setattr(K8sCluster, "_namespace", classmethod(lambda cls: "default"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "localhost")
    monkeypatch.setenv("HOSTNAME", "localhost")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    return api


def test_the_job_of_the_page_tells_jax_who_its_pods_are(in_a_pod):
    assert K8sCluster.is_env_present()
    address = K8sCluster.get_coordinator_address(None, None)
    service, job = BY_KIND["Service"], BY_KIND["Job"]
    first = f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert address.rpartition(":")[0] == first  # as DNS names a pod of a headless service
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert K8sCluster.get_process_count() == 2 and K8sCluster.get_process_id() == 1
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"]
    allowed = {
        (group, resource, verb)
        for rule in BY_KIND["Role"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert in_a_pod.asked <= allowed and ("batch", "jobs", "get") in in_a_pod.asked
    account = BY_KIND["ServiceAccount"]["metadata"]["name"]
    assert spec["template"]["spec"]["serviceAccountName"] == account
    binding = BY_KIND["RoleBinding"]
    assert binding["roleRef"]["name"] == BY_KIND["Role"]["metadata"]["name"]
    assert [one["name"] for one in binding["subjects"]] == [account]


def test_what_it_starts_is_a_command_that_is_one_of_several():
    (container,) = BY_KIND["Job"]["spec"]["template"]["spec"]["containers"]
    python, module, name, *flags = container["command"]
    assert (python, module, name) == ("python", "-m", "experiments.scratch")
    config = cli.parse(ScratchConfig, flags)
    config.validate()
    assert config.is_one_of_several and str(config.output) == "/runs/a"
