"""The cluster files are ones that Ray's autoscaler and KubeRay take, and say what docs/cluster.md promises of them."""

import re
from pathlib import Path

import pytest
import yaml

import cli

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
FILES = {"aws": ROOT / "cluster.yaml", "gcp": EXAMPLES / "cluster-gcp.yaml"}


@pytest.fixture(scope="module", params=FILES)
def cluster(request):
    return yaml.safe_load(FILES[request.param].read_text())


@pytest.fixture(scope="module")
def kubernetes():
    """The documents of kuberay.yaml by their kind."""
    return {d["kind"]: d for d in yaml.safe_load_all((EXAMPLES / "kuberay.yaml").read_text())}


def test_ray_takes_it(cluster):
    util = pytest.importorskip("ray.autoscaler._private.util")
    util.validate_config(util.prepare_config(cluster))


def test_the_head_takes_no_work_and_never_multiplies(cluster):
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert head["max_workers"] == 0


def test_workers_start_from_none_within_their_limits(cluster):
    types = cluster["available_node_types"]
    assert {"cpu", "gpu"} < set(types)
    assert types["gpu"]["resources"]["GPU"] == 1
    for node_type in types.values():
        assert 0 <= node_type["min_workers"] <= node_type["max_workers"] <= cluster["max_workers"]
    assert types["cpu"]["min_workers"] == types["gpu"]["min_workers"] == 0
    assert types["cpu"]["max_workers"] + types["gpu"]["max_workers"] <= cluster["max_workers"]


def test_workers_that_have_nothing_to_do_go(cluster):
    assert cluster["idle_timeout_minutes"] == 5, "as docs/cluster.md says"


def test_the_file_at_the_root_is_for_aws(cluster):
    assert yaml.safe_load((ROOT / "cluster.yaml").read_text())["provider"]["type"] == "aws"
    assert cluster["auth"]["ssh_user"]


def test_workers_are_spot_machines_and_the_head_is_not(cluster):
    for name, node_type in cluster["available_node_types"].items():
        node = node_type["node_config"]
        # What the file says goes to the cloud as it is, and there scheduling is an object.
        scheduling = node.get("scheduling", {})
        spot = node.get("InstanceMarketOptions") == {"MarketType": "spot"} or scheduling.get("preemptible") is True
        assert spot == (name != "head"), name


def test_all_resources_are_whole_numbers(cluster):
    """Ray's check of the file does not see it, its autoscaler fails on it."""
    for node_type in cluster["available_node_types"].values():
        assert all(type(amount) is int for amount in node_type["resources"].values())


def test_every_node_asks_for_the_token_that_is_copied_there(cluster):
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    assert cluster["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"
    starts = cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
    assert not [line for line in starts if "RAY_AUTH" in line]
    assert any("--dashboard-host=127.0.0.1" in line for line in starts)


def test_shared_memory_and_the_project_come_with_the_container(cluster):
    (size,) = [option for option in cluster["docker"]["run_options"] if option.startswith("--shm-size=")]
    starts = cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
    stores = [int(found[1]) for line in starts if (found := re.search(r"ray start.*--object-store-memory=(\d+)", line))]
    assert len(stores) == 2
    shared = int(size.removeprefix("--shm-size=").removesuffix("g")) * 2**30
    assert max(stores) < 0.95 * shared  # else it goes to the disk
    assert cluster["file_mounts"]["/home/ray/dyncity"] == "."
    assert any("pip install" in line and "/home/ray/dyncity" in line for line in cluster["setup_commands"])


def test_the_clouds_differ_in_machines_alone():
    aws, gcp = (yaml.safe_load(path.read_text()) for path in FILES.values())
    for file in (aws, gcp):
        for key in ("provider", "initialization_commands", "head_setup_commands"):
            file.pop(key)
        for node_type in file["available_node_types"].values():
            node_type.pop("node_config")
    assert aws == gcp


def test_kubernetes_has_the_same_nodes(kubernetes):
    types = yaml.safe_load(FILES["aws"].read_text())["available_node_types"]
    spec = kubernetes["RayCluster"]["spec"]
    assert kubernetes["RayCluster"]["apiVersion"] == kubernetes["RayJob"]["apiVersion"] == "ray.io/v1"
    assert (spec["enableInTreeAutoscaling"], spec["authOptions"]) == (True, {"mode": "token"})
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    assert set(groups) == set(types) - {"head"}
    for name, group in groups.items():
        assert (group["minReplicas"], group["maxReplicas"]) == (0, types[name]["max_workers"])
        (container,) = group["template"]["spec"]["containers"]
        limits = container["resources"]["limits"]
        given = {"CPU": int(limits["cpu"]), "GPU": int(limits.get("nvidia.com/gpu", 0))}
        assert given == {"GPU": 0} | types[name]["resources"]


def test_all_pods_share_the_corpora_and_have_shared_memory(kubernetes):
    spec = kubernetes["RayCluster"]["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert {m["mountPath"] for m in pod["containers"][0]["volumeMounts"]} == {"/corpora", "/dev/shm"}
        assert pod["securityContext"] == {"fsGroup": 1000}
        (shm,) = [v["emptyDir"]["sizeLimit"] for v in pod["volumes"] if v["name"] == "shm"]
        assert int(group["rayStartParams"]["object-store-memory"]) < 0.95 * int(shm.removesuffix("Gi")) * 2**30
        claims = [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
        assert claims == [kubernetes["PersistentVolumeClaim"]["metadata"]["name"]]
    assert kubernetes["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_job_of_kubernetes_is_for_that_cluster(kubernetes):
    selected = kubernetes["RayJob"]["spec"]["clusterSelector"]
    assert selected == {"ray.io/cluster": kubernetes["RayCluster"]["metadata"]["name"]}


def test_the_commands_of_jobs_have_verbs_and_options_that_exist(kubernetes, capsys):
    page = (ROOT / "docs" / "cluster.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"-- +(dyncity [a-z].*)$", page, re.MULTILINE)
    assert len(commands) >= 5
    for line in (*commands, kubernetes["RayJob"]["spec"]["entrypoint"]):
        words = line.split()
        with pytest.raises(SystemExit) as end:
            cli.main([words[1], "--help"])
        assert end.value.code == 0, line
        known = capsys.readouterr().out
        for option in (word for word in words if word.startswith("--")):
            assert f"{option} " in known or f"{option}/" in known, f"{line} ({option})"
