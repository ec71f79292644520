"""Checks what is in k8s/: that it builds, that it fits Kubernetes' schemas, and that its parts agree with each other and with the code.

The schemas see neither a Service that selects nothing nor a port that nobody listens on, so those are checked here: selectors against labels,
ports against containers and against the configuration, probes against the services of proto/, every name against the object it names,
and every config.toml by the real binary (`--print-config` refuses unknown keys).

    check_manifests.py [--binaries target/debug]
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]
KUBERNETES_VERSIONS = ["1.31", "1.37"]
WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"}
QUANTITY_UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def main() -> int:
    """Checks the base and every overlay; returns the exit code."""
    parser = argparse.ArgumentParser(description="Check the Kubernetes manifests.")
    parser.add_argument("--binaries", type=pathlib.Path, help="the folder of the built services; without it the config keys are not checked")
    args = parser.parse_args()
    folders = [ROOT / "k8s/base", *sorted(path.parent for path in (ROOT / "k8s/overlays").glob("*/kustomization.yaml"))]
    faults = [f"{folder.relative_to(ROOT)}: {fault}" for folder in folders for fault in check_folder(folder, args.binaries)]
    members = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"]
    faults += image_context_faults(members, (ROOT / ".dockerignore").read_text())
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    if not args.binaries:
        print("manifests: config keys were not checked, because no --binaries were given", file=sys.stderr)
    if not faults:
        print(f"manifests: {len(folders)} builds agree with Kubernetes {', '.join(KUBERNETES_VERSIONS)}, with the contract and with themselves")
    return 1 if faults else 0


def check_folder(folder: pathlib.Path, binaries: pathlib.Path | None) -> list[str]:
    """All faults of one kustomization."""
    built = subprocess.run(["kustomize", "build", folder], capture_output=True, text=True)
    if built.returncode != 0:
        return [f"kustomize build: {built.stderr.strip()}"]
    manifests = Manifests([document for document in yaml.safe_load_all(built.stdout) if document])
    faults = schema_faults(built.stdout) + cross_reference_faults(manifests, proto_services())
    if folder.parent.name == "overlays":
        faults += durability_faults(manifests)
    return faults + (config_key_faults(manifests, binaries) if binaries else [])


def image_context_faults(members: list[str], dockerignore: str) -> list[str]:
    """Crates that the image's build would not find."""
    let_through = {line.removeprefix("!") for line in dockerignore.splitlines() if line.startswith("!")}
    return [f".dockerignore: the workspace member {member} is not let through" for member in members if member not in let_through]


def schema_faults(text: str) -> list[str]:
    """What kubernetes-validate says of the built text."""
    faults = []
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        for version in KUBERNETES_VERSIONS:
            command = ["kubernetes-validate", "--strict", "--quiet", "-k", version, file.name]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode != 0:
                faults.append(f"schema {version}: {(result.stdout + result.stderr).strip()}")
    return faults


def proto_services() -> set[str]:
    """The full names of the services in proto/, which are the names that gRPC health knows, and the empty one for the whole server."""
    names = {""}
    for path in (ROOT / "proto/pagoda").rglob("*.proto"):
        text = path.read_text()
        package = re.search(r"^package ([\w.]+);", text, re.M)[1]
        names |= {f"{package}.{service}" for service in re.findall(r"^service (\w+)", text, re.M)}
    return names


class Manifests:
    """The documents of one build."""

    def __init__(self, documents: list[dict]):
        self.documents = documents

    def of_kind(self, *kinds: str) -> list[dict]:
        """The documents of these kinds."""
        return [document for document in self.documents if document["kind"] in kinds]

    def names(self, kind: str) -> set[str]:
        """The names of one kind."""
        return {document["metadata"]["name"] for document in self.of_kind(kind)}

    def workloads(self) -> list["Workload"]:
        """Everything that starts pods."""
        return [Workload(document, self) for document in self.of_kind(*WORKLOADS)]


class Workload:
    """One document that starts pods, with its pod template at hand."""

    def __init__(self, document: dict, manifests: Manifests):
        spec = document["spec"]
        if document["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        self.name = f"{document['kind']}/{document['metadata']['name']}"
        self.selector = spec.get("selector", {}).get("matchLabels")
        self.template = spec["template"]
        self.pod = spec["template"]["spec"]
        self.labels = self.template["metadata"]["labels"]
        self.manifests = manifests

    def ports(self) -> dict[str, int]:
        """Named container ports."""
        return {port["name"]: port["containerPort"] for container in self.pod["containers"] for port in container.get("ports", [])}

    def program(self) -> str:
        """The program that the first container runs."""
        return self.pod["containers"][0]["command"][0]

    def selected_by(self, selector: dict) -> bool:
        """Whether these labels select the pods."""
        return bool(selector) and selector.items() <= self.labels.items()

    def config_text(self) -> str | None:
        """The config.toml that is mounted from a ConfigMap."""
        mounted = {volume["configMap"]["name"] for volume in self.pod.get("volumes", []) if "configMap" in volume}
        texts = [c["data"].get("config.toml") for c in self.manifests.of_kind("ConfigMap") if c["metadata"]["name"] in mounted]
        return next((text for text in texts if text), None)

    def config(self) -> dict:
        """The same, parsed; empty when it is absent."""
        return tomllib.loads(self.config_text() or "")


def cross_reference_faults(manifests: Manifests, services: set[str]) -> list[str]:
    """Whatever does not agree with something else in the same build, or with proto/."""
    faults = selector_faults(manifests) + service_port_faults(manifests)
    for workload in manifests.workloads():
        faults += [f"{workload.name}: {fault}" for check in WORKLOAD_CHECKS for fault in check(workload)]
        faults += [f"{workload.name}: {fault}" for fault in probe_faults(workload, services)]
    return faults


def selector_faults(manifests: Manifests) -> list[str]:
    """Services and disruption budgets that select nothing; workloads that do not select their own pods."""
    faults = []
    workloads = manifests.workloads()
    for document in manifests.of_kind("Service", "PodDisruptionBudget"):
        selector = document["spec"]["selector"]
        selector = selector.get("matchLabels", {}) if document["kind"] == "PodDisruptionBudget" else selector
        if not any(workload.selected_by(selector) for workload in workloads):
            faults.append(f"{document['kind']}/{document['metadata']['name']}: selector {selector} matches no pod")
    faults += [f"{w.name}: selector {w.selector} does not match its own pods' labels {w.labels}" for w in workloads if w.selector and not w.selected_by(w.selector)]
    return faults


def service_port_faults(manifests: Manifests) -> list[str]:
    """Service ports that lead to a port no selected container has, or to another number."""
    faults = []
    for service in manifests.of_kind("Service"):
        for workload in manifests.workloads():
            if not workload.selected_by(service["spec"]["selector"]):
                continue
            ports = workload.ports()
            for port in service["spec"]["ports"]:
                found = ports.get(port["targetPort"])
                if found != port["port"]:
                    faults.append(f"Service/{service['metadata']['name']}: port {port['name']} {port['port']}: expected the same in {workload.name}, found {found}")
    return faults


def name_faults(workload: Workload) -> list[str]:
    """Volumes, config maps, claims and accounts that are named and not there."""
    known = workload.manifests
    volumes = {volume["name"]: volume for volume in workload.pod.get("volumes", [])}
    faults = [
        f"volume {mount['name']} is mounted and not declared"
        for container in workload.pod["containers"]
        for mount in container.get("volumeMounts", [])
        if mount["name"] not in volumes
    ]
    wanted = {("ServiceAccount", workload.pod.get("serviceAccountName"))}
    wanted |= {("ConfigMap", v["configMap"]["name"]) for v in volumes.values() if "configMap" in v}
    wanted |= {("PersistentVolumeClaim", v["persistentVolumeClaim"]["claimName"]) for v in volumes.values() if "persistentVolumeClaim" in v}
    for container in workload.pod["containers"]:
        wanted |= {("ConfigMap", e["configMapRef"]["name"]) for e in container.get("envFrom", []) if "configMapRef" in e}
        wanted |= {("Secret", e["secretRef"]["name"]) for e in container.get("envFrom", []) if "secretRef" in e and not e["secretRef"].get("optional")}
    return faults + [f"{kind} {name} is named and not there" for kind, name in sorted(wanted, key=str) if name not in known.names(kind)]


def resource_faults(workload: Workload) -> list[str]:
    """Requests above their limits, and ports that do not exist."""
    faults = [f"port {name}: expected 1 to 65535, found {port}" for name, port in workload.ports().items() if not 1 <= port <= 65535]
    for container in workload.pod["containers"]:
        resources = container.get("resources", {})
        for name, request in resources.get("requests", {}).items():
            limit = resources.get("limits", {}).get(name)
            if limit is not None and quantity(request) > quantity(limit):
                faults.append(f"{name}: request {request} is above limit {limit}")
    return faults


def quantity(text: str | int) -> float:
    """A Kubernetes quantity as a number."""
    number, unit = re.fullmatch(r"([\d.]+)([a-zA-Z]*)", str(text)).groups()
    return float(number) * QUANTITY_UNITS[unit]


def privilege_faults(workload: Workload) -> list[str]:
    """Pods that could do more than they need."""
    faults = [] if workload.pod.get("securityContext", {}).get("runAsNonRoot") else ["expected runAsNonRoot: true"]
    for container in workload.pod["containers"]:
        context = container.get("securityContext", {})
        if not context.get("readOnlyRootFilesystem"):
            faults.append(f"{container['name']}: expected readOnlyRootFilesystem: true")
        if context.get("allowPrivilegeEscalation") is not False:
            faults.append(f"{container['name']}: expected allowPrivilegeEscalation: false")
    return faults


def config_faults(workload: Workload) -> list[str]:
    """A config.toml that disagrees with the container's ports, the pod's grace or the peers' Services."""
    config, ports = workload.config(), workload.ports()
    faults = default_faults(workload.program(), config, ports) if config else ["no config.toml is mounted"]
    listen = config.get("listen", {})
    for key, name in (("address", "grpc"), ("metrics_address", "metrics")):
        if name in ports and listen.get(key) != f"0.0.0.0:{ports[name]}":
            faults.append(f"config.toml listen.{key}: expected 0.0.0.0:{ports[name]}, found {listen.get(key)}")
    for name, address in config.get("peers", {}).items():
        faults += peer_faults(workload.manifests, name, address)
    return faults + grace_faults(workload, config)


def default_faults(program: str, config: dict, ports: dict[str, int]) -> list[str]:
    """Keys that the program's own config.toml does not have, and ports that are not its usual ones."""
    path = ROOT / program / "config.toml"
    if not path.exists():
        return [f"expected the program's own settings in {program}/config.toml, found no such file"]
    defaults = tomllib.loads(path.read_text())
    faults = [f"config.toml {key}: expected a key of {program}/config.toml" for key in sorted(keys(config) - keys(defaults))]
    for key, name in (("address", "grpc"), ("metrics_address", "metrics")):
        usual = defaults["listen"][key].rpartition(":")[2]
        if name in ports and usual != str(ports[name]):
            faults.append(f"port {name}: expected {usual} as in {program}/config.toml, found {ports[name]}")
    return faults


def keys(table: dict, prefix: str = "") -> set[str]:
    """The dotted names of all values of a TOML table."""
    nested = [keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}"} for key, value in table.items()]
    return set().union(*nested)


def peer_faults(manifests: Manifests, name: str, address: str) -> list[str]:
    """A peer that is no Service, or another of its ports."""
    known = {f"http://{s['metadata']['name']}:{p['port']}" for s in manifests.of_kind("Service") for p in s["spec"]["ports"] if p["name"] == "grpc"}
    return [] if address in known else [f"config.toml peers.{name}: expected one of {sorted(known)}, found {address}"]


def grace_faults(workload: Workload, config: dict) -> list[str]:
    """A pod that is killed before it has drained."""
    hook = workload.pod["containers"][0].get("lifecycle", {}).get("preStop", {})
    needed_s = hook.get("sleep", {}).get("seconds", 0) + config.get("drain", {}).get("grace_ms", 0) / 1000
    grace_s = workload.pod.get("terminationGracePeriodSeconds", 30)
    return [] if needed_s < grace_s else [f"terminationGracePeriodSeconds: expected more than preStop and drain.grace_ms together ({needed_s} s), found {grace_s}"]


WORKLOAD_CHECKS = [name_faults, resource_faults, privilege_faults, config_faults]


def probe_faults(workload: Workload, services: set[str]) -> list[str]:
    """Probes that are missing, or that ask for what the container does not have."""
    faults = []
    for container in workload.pod["containers"]:
        for kind in ("startupProbe", "livenessProbe", "readinessProbe") if container.get("ports") else ():
            faults += [f"{kind}: {fault}" for fault in one_probe_faults(container.get(kind, {}), workload.ports(), services)]
        if container.get("ports") and "grpc" not in container.get("readinessProbe", {}):
            faults.append("readinessProbe: expected a grpc probe, because only the health service knows")
    return faults


def one_probe_faults(probe: dict, ports: dict[str, int], services: set[str]) -> list[str]:
    """A probe of a port that the container does not have, or of a service that the contract does not have."""
    how = probe.get("grpc") or probe.get("httpGet")
    if not how:
        return ["expected a grpc or an httpGet probe"]
    faults = [] if how["port"] in [*ports, *ports.values()] else [f"expected one of the ports {ports}, found {how['port']}"]
    if how.get("service", "") not in services:
        faults.append(f"expected one of {sorted(services)}, found {how['service']}")
    return faults


def durability_faults(manifests: Manifests) -> list[str]:
    """A store in a directory that goes with the pod."""
    faults = []
    for workload in manifests.workloads():
        url = workload.config().get("store", {}).get("url", "")
        if "://" in url and not url.startswith("file://"):
            continue
        folder = pathlib.PurePosixPath(url.removeprefix("file://"))
        claims = {v["name"] for v in workload.pod.get("volumes", []) if "persistentVolumeClaim" in v}
        mounts = [m["mountPath"] for c in workload.pod["containers"] for m in c.get("volumeMounts", []) if m["name"] in claims]
        if not any(folder.is_relative_to(mount) for mount in mounts):
            faults.append(f"{workload.name}: config.toml store.url {url!r}: expected a folder on a persistent volume, found mounts {mounts}")
    return faults


def config_key_faults(manifests: Manifests, binaries: pathlib.Path) -> list[str]:
    """What the real binaries say of the config.toml that they are given."""
    faults = []
    for workload in manifests.workloads():
        binary = binaries / workload.program()
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(workload.config_text() or "")
            file.flush()
            try:
                result = subprocess.run([binary, "--config", file.name, "--print-config"], capture_output=True, text=True, timeout=30)
            except (OSError, subprocess.TimeoutExpired) as error:
                faults.append(f"{workload.name}: {binary}: {error}")
                continue
        if result.returncode != 0:
            faults.append(f"{workload.name}: {binary.name} refuses its config.toml: {result.stderr.strip()}")
    return faults


if __name__ == "__main__":
    sys.exit(main())
