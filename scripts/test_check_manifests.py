"""Breaks the development overlay on purpose, one fault at a time, and expects the check to name it."""

import copy
import pathlib
import subprocess
import sys
import unittest

import yaml

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import check_manifests as check  # noqa: E402

BUILT = subprocess.run(["kustomize", "build", check.ROOT / "k8s/overlays/dev"], capture_output=True, text=True, check=True).stdout
DOCUMENTS = [document for document in yaml.safe_load_all(BUILT) if document]


def faults_after(kind: str, name: str, damage) -> str:
    """The faults found once `damage` has changed the one document of that kind and name."""
    documents = copy.deepcopy(DOCUMENTS)
    (document,) = [d for d in documents if d["kind"] == kind and d["metadata"]["name"].startswith(name)]
    damage(document)
    manifests = check.Manifests(documents)
    return "\n".join(check.cross_reference_faults(manifests, check.proto_services()) + check.durability_faults(manifests))


def pod(document: dict) -> dict:
    """The pod of a workload."""
    return document["spec"]["template"]["spec"]


def container(document: dict) -> dict:
    """The one container of a workload."""
    return pod(document)["containers"][0]


def rewrite(old: str, new: str):
    """Damage to the text of a config.toml."""

    def damage(document: dict) -> None:
        assert old in document["data"]["config.toml"]
        document["data"]["config.toml"] = document["data"]["config.toml"].replace(old, new)

    return damage


class Damaged(unittest.TestCase):
    """Every kind of fault is found, and found alone."""

    def expect(self, fault: str, kind: str, name: str, damage) -> None:
        found = faults_after(kind, name, damage)
        self.assertIn(fault, found)
        self.assertEqual(len(found.splitlines()), 1, found)

    def test_the_undamaged_overlay_is_clean(self):
        self.assertEqual(faults_after("Namespace", "pagoda-dev", lambda d: None), "")

    def test_service_that_selects_nothing(self):
        self.expect("matches no pod", "Service", "index-svc", lambda d: d["spec"]["selector"].update({"app.kubernetes.io/name": "index"}))

    def test_budget_that_selects_nothing(self):
        labels = "app.kubernetes.io/name"
        self.expect("matches no pod", "PodDisruptionBudget", "index-svc", lambda d: d["spec"]["selector"]["matchLabels"].update({labels: "x"}))

    def test_service_of_another_port(self):
        self.expect("port metrics 9104: expected the same", "Service", "index-svc", lambda d: d["spec"]["ports"][1].update(port=9104))

    def test_peer_that_is_no_service(self):
        self.expect("peers.index: expected one of", "ConfigMap", "user-tower-svc", rewrite("index-svc:7103", "index:7103"))

    def test_config_that_listens_elsewhere(self):
        self.expect("listen.address: expected 0.0.0.0:7101", "ConfigMap", "user-tower-svc", rewrite("0.0.0.0:7101", "127.0.0.1:7101"))

    def test_config_key_that_the_program_does_not_have(self):
        self.expect("drain.grace: expected a key of index-svc/config.toml", "ConfigMap", "index-svc", rewrite("grace_ms", "grace"))

    def test_probe_of_an_unknown_service(self):
        self.expect("readinessProbe: expected one of", "Deployment", "user-tower-svc", lambda d: container(d)["readinessProbe"]["grpc"].update(service="pagoda.recall.v1.Recall"))

    def test_probe_of_another_port(self):
        self.expect("livenessProbe: expected one of the ports", "Deployment", "user-tower-svc", lambda d: container(d)["livenessProbe"]["httpGet"].update(port="metric"))

    def test_readiness_that_is_not_asked_of_health(self):
        get = {"httpGet": {"path": "/metrics", "port": "metrics"}}
        self.expect("expected a grpc probe", "Deployment", "user-tower-svc", lambda d: container(d).update(readinessProbe=get))

    def test_drain_longer_than_the_grace_period(self):
        self.expect("terminationGracePeriodSeconds", "StatefulSet", "index-svc", lambda d: pod(d).update(terminationGracePeriodSeconds=25))

    def test_request_above_its_limit(self):
        self.expect("memory: request 8Gi is above limit 4Gi", "StatefulSet", "index-svc", lambda d: container(d)["resources"]["requests"].update(memory="8Gi"))

    def test_claim_that_is_not_there(self):
        self.expect("PersistentVolumeClaim other is named and not there", "StatefulSet", "index-svc", lambda d: pod(d)["volumes"][1]["persistentVolumeClaim"].update(claimName="other"))

    def test_mount_of_an_undeclared_volume(self):
        self.expect("volume x is mounted and not declared", "StatefulSet", "index-svc", lambda d: container(d)["volumeMounts"].append({"name": "x", "mountPath": "/x"}))

    def test_store_that_goes_with_the_pod(self):
        self.expect("expected a folder on a persistent volume", "ConfigMap", "index-svc", rewrite("/var/lib/pagoda/store", "/tmp/store"))

    def test_root(self):
        self.expect("expected runAsNonRoot", "StatefulSet", "index-svc", lambda d: pod(d)["securityContext"].update(runAsNonRoot=False))

    def test_crate_that_the_image_lacks(self):
        self.assertEqual(len(check.image_context_faults(["ann", "bench"], "*\n!ann\n")), 1)
        self.assertEqual(check.image_context_faults(["ann"], "*\n!ann\n"), [])


if __name__ == "__main__":
    unittest.main()
