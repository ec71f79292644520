#!/usr/bin/env python3
"""Asks a running user-tower-svc for a user's candidates.

The stubs are generated from the repository's proto files at the first run, into a cache folder; nothing generated is committed. Before it
calls Recall, the client asks reflection which services the server has, and the standard health service whether it serves, because that is
what one does by hand when a call fails.

    python recall_client.py --user-tower 127.0.0.1:7101 --user u42 --k 10
"""

import argparse
import hashlib
import importlib
import json
import os
import pathlib
import sys
import tempfile

import grpc
import grpc_tools
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from grpc_tools import protoc

PROTO_ROOT = pathlib.Path(__file__).resolve().parents[2] / "proto"
RECALL_SERVICE = "pagoda.recall.v1.RecallService"


class ClientError(Exception):
    """What a person should read instead of a traceback."""


def main() -> int:
    """Runs the client; returns the exit code."""
    args = parse_args()
    try:
        report = ask(args)
    except ClientError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except grpc.RpcError as error:
        print(f"error: {describe(error)}", file=sys.stderr)
        return 1
    print(json.dumps(report, indent=2) if args.json else table(report))
    return 0


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Recall the candidates of one user.")
    parser.add_argument("--user-tower", default="127.0.0.1:7101", metavar="ADDR", help="user-tower-svc, as HOST:PORT (default: %(default)s)")
    parser.add_argument("--user", default="", metavar="ID", help="the user's id; unknown ids and none at all are ordinary")
    parser.add_argument("--history", default=None, metavar="IDS", help="item ids, oldest first, comma-separated: replaces what the service knows")
    parser.add_argument("--history-feature", default="history", metavar="NAME", help="the sequence feature's name in schema.toml (default: %(default)s)")
    parser.add_argument("--k", type=int, default=10, metavar="N", help="how many candidates (default: %(default)s)")
    parser.add_argument("--exclude", default="", metavar="IDS", help="item ids that must not be recalled, comma-separated")
    parser.add_argument("--timeout-s", type=float, default=5.0, metavar="S", help="the deadline of each call in seconds (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    if not 0 <= args.k < 2**32:
        parser.error(f"--k: expected a number from 0 to {2**32 - 1}, found {args.k}")
    return args


def ask(args: argparse.Namespace) -> dict:
    """Health, reflection and Recall over one channel, as a dictionary ready for JSON."""
    recall_pb2, recall_pb2_grpc = load_stubs()
    with grpc.insecure_channel(args.user_tower) as channel:
        services = list_services(channel)
        health = check_health(channel, args.timeout_s)
        stub = recall_pb2_grpc.RecallServiceStub(channel)
        reply = stub.Recall(recall_request(recall_pb2, args), timeout=args.timeout_s)
    return {"health": health, "services": services, **as_dict(recall_pb2, reply)}


def check_health(channel: grpc.Channel, timeout_s: float) -> str:
    """The standard health service's word for RecallService, for example SERVING."""
    request = health_pb2.HealthCheckRequest(service=RECALL_SERVICE)
    try:
        reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout_s)
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.NOT_FOUND:
            raise
        raise ClientError(f"expected a server that serves {RECALL_SERVICE}; its health service does not know it: is this user-tower-svc?") from error
    return health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)


def list_services(channel: grpc.Channel) -> list[str]:
    """The full names of the services that reflection lists; RecallService must be among them."""
    services = sorted(ProtoReflectionDescriptorDatabase(channel).get_services())
    if RECALL_SERVICE not in services:
        raise ClientError(f"expected a server with {RECALL_SERVICE}, found one with {', '.join(services) or 'no service'}: is this user-tower-svc?")
    return services


def recall_request(recall_pb2, args: argparse.Namespace):
    """The request for the command line's user."""
    request = recall_pb2.RecallRequest(k=args.k, exclude_item_ids=split(args.exclude))
    request.user.id = args.user
    if args.history is not None:
        history = request.user.features[args.history_feature].texts
        history.SetInParent()  # An empty history is said, not left out.
        history.values.extend(split(args.history))
    return request


def split(ids: str) -> list[str]:
    """Comma-separated ids."""
    return [part for part in ids.split(",") if part]


def as_dict(recall_pb2, reply) -> dict:
    """The reply's fields under their proto names, with sources in words."""
    source = recall_pb2.CandidateSource.Name
    return {
        "model_version": f"{reply.model_version.space_id}/{reply.model_version.revision}",
        "generation_id": reply.index_version.generation_id,
        "lsn": reply.index_version.lsn,
        "user_known": reply.user_known,
        "history_length": reply.history_length,
        "exhausted": reply.exhausted,
        "candidates": [
            {"item_id": c.item_id, "score": c.score, "source": source(c.source).removeprefix("CANDIDATE_SOURCE_").lower()} for c in reply.candidates
        ],
    }


def table(report: dict) -> str:
    """The report for a person."""
    known = "known" if report["user_known"] else "unknown"
    lines = [
        f"health {report['health']}, model {report['model_version']}, generation {report['generation_id']} at lsn {report['lsn']}",
        f"user {known}, {report['history_length']} items of history",
        f"{'rank':>4}  {'score':>7}  {'source':<6}  item",
    ]
    lines += [f"{rank:>4}  {c['score']:>7.4f}  {c['source']:<6}  {c['item_id']}" for rank, c in enumerate(report["candidates"], 1)]
    if report["exhausted"]:
        lines.append("the index has no further item")
    return "\n".join(lines)


def describe(error: grpc.RpcError) -> str:
    """The status in one line, and one line for each field at fault."""
    lines = [f"{error.code().name}: {error.details()}"]
    lines += [f"  {violation.field}: {violation.description}" for violation in field_violations(error)]
    if error.code() == grpc.StatusCode.UNAVAILABLE:
        lines.append("  is user-tower-svc running at this address, with a published generation? `pagoda status` tells")
    return "\n".join(lines)


def field_violations(error: grpc.RpcError) -> list:
    """The violations of a google.rpc.BadRequest among the status's details."""
    status = rpc_status.from_call(error)
    bad_request = error_details_pb2.BadRequest()
    details = status.details if status else ()
    return [violation for detail in details if detail.Unpack(bad_request) for violation in bad_request.field_violations]


def load_stubs():
    """The modules recall_pb2 and recall_pb2_grpc, generated first where the cache has none for these proto files."""
    folder = generate_stubs()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module("pagoda.recall.v1.recall_pb2"), importlib.import_module("pagoda.recall.v1.recall_pb2_grpc")


def generate_stubs() -> pathlib.Path:
    """The folder of the stubs; its name is a digest of the proto files, so that a changed contract is generated anew."""
    protos = sorted((PROTO_ROOT / "pagoda").rglob("*.proto"))
    if not protos:
        raise ClientError(f"{PROTO_ROOT}: expected the folder with pagoda/recall/v1/recall.proto, found no proto file")
    digest = hashlib.sha256(grpc.__version__.encode() + b"".join(p.read_bytes() for p in protos)).hexdigest()[:16]
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    folder = cache / "pagoda" / f"python-stubs-{digest}"
    if not folder.exists():
        compile_protos(protos, folder)
    return folder


def compile_protos(protos: list[pathlib.Path], folder: pathlib.Path) -> None:
    """Generates the stubs beside `folder` and renames them into place, so that two first runs at once do not disturb each other."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        fresh = pathlib.Path(scratch) / "stubs"
        fresh.mkdir()
        well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
        options = [f"-I{PROTO_ROOT}", f"-I{well_known}", f"--python_out={fresh}", f"--grpc_python_out={fresh}"]
        if protoc.main(["protoc", *options, *map(str, protos)]) != 0:
            raise ClientError(f"{PROTO_ROOT}: expected proto files that compile; see protoc's message above")
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.exists():
                raise


if __name__ == "__main__":
    sys.exit(main())
