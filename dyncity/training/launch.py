"""Running the loops: in this process, or on workers of Ray Train (one of the two files that import Ray)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from dyncity.checkpoint import weights_digest
from dyncity.config import Config
from dyncity.config_file import config_json, from_dict
from dyncity.datasets.manifest import MANIFEST
from dyncity.errors import InputError
from dyncity.last_words import last_words
from dyncity.ray_settings import RAY_ENDED, attempts_unsaid, end_ray, not_joined, settle_environment, sigterm_kept
from dyncity.training.clips import Clips
from dyncity.training.dit_loop import fit_dit
from dyncity.training.latent_files import RECORD, check_latents
from dyncity.training.latents import open_latents
from dyncity.training.loop import Metrics, Place
from dyncity.training.run_folder import prepare_run, sole_writer
from dyncity.training.vae_loop import fit_vae
from dyncity.watchdog import STUCK_AFTER, Watchdog

Report = Callable[[Metrics], None]
Say = Callable[[str], None]
_MAX_FAILURES = 8
_ERROR = ".error.json"


def train_vae(
    config: Config,
    data: Path,
    out: Path,
    *,
    workers: tuple[int, int] = (0, 0),
    gpus_per_worker: float = 0.0,
    address: str = "local",
    stuck_after: float = STUCK_AFTER,
    resume: bool = False,
    overwrite: bool = False,
    start: Path | None = None,
    report: Report = lambda metrics: None,
    say: Say | None = None,
) -> None:
    """Train a VAE on a corpus.

    Args:
        config: what to train.
        data: the corpus.
        out: the folder of the run, on storage that all workers share.
        workers: least and most workers; (0, 0) trains in this process without Ray.
        gpus_per_worker: 0 trains on CPUs.
        address: "local" starts Ray here; else the cluster's.
        stuck_after: seconds after which a worker process that is still at the same step is ended, as if it had died;
            0: never.
        resume, overwrite: what to do with a run that is there.
        start: a checkpoint whose weights are trained further; None: fresh ones.
        report: called with each line of metrics.
        say: told in one line what ``overwrite`` deletes, before anything is touched.

    Raises:
        InputError: bad input; nothing is left behind.
    """
    Clips(data, config)  # fail before a run folder exists
    job = {"kind": "vae", "data": str(data.absolute()), "out": str(out.absolute())}
    job |= {"start": str(start.absolute())} if start is not None else {}
    _launch(config, job, out, workers, gpus_per_worker, address, stuck_after, resume, overwrite, report, say)


def train_dit(
    config: Config,
    data: Path,
    vae: Path,
    out: Path,
    *,
    workers: tuple[int, int] = (0, 0),
    gpus_per_worker: float = 0.0,
    address: str = "local",
    stuck_after: float = STUCK_AFTER,
    resume: bool = False,
    overwrite: bool = False,
    start: Path | None = None,
    report: Report = lambda metrics: None,
    say: Say | None = None,
) -> None:
    """Train a DiT on latents that ``vae`` encoded; the arguments are those of ``train_vae``."""
    open_latents(data)
    check_latents(data)
    job = {
        "kind": "dit", "data": str(data.absolute()), "vae": str(vae.absolute()), "out": str(out.absolute())
    }  # fmt: skip
    job |= {"start": str(start.absolute())} if start is not None else {}
    _launch(config, job, out, workers, gpus_per_worker, address, stuck_after, resume, overwrite, report, say)


def _fit(config: Config, job: dict[str, str], place: Place, report: Report) -> None:
    """One worker's whole run."""
    out, start = Path(job["out"]), Path(job["start"]) if "start" in job else None
    if job["kind"] == "vae":
        fit_vae(config, Path(job["data"]), out, place, report, start)
    else:
        fit_dit(config, Path(job["data"]), Path(job["vae"]), out, place, report, start)


def _launch(
    config: Config,
    job: dict[str, str],
    out: Path,
    workers: tuple[int, int],
    gpus_per_worker: float,
    address: str,
    stuck_after: float,
    resume: bool,
    overwrite: bool,
    report: Report,
    say: Say | None,
) -> None:
    if not 0 <= stuck_after < float("inf"):
        raise InputError("--stuck-after", f"found {stuck_after}", "give seconds; 0: never")
    settings = config.train_vae if job["kind"] == "vae" else config.train_dit
    if workers[1] > settings.batch:
        raise InputError(
            "--workers", f"{workers[1]} workers for a batch of {settings.batch}",
            f"use at most {settings.batch}, or raise train_{job['kind']}.batch by --set",
        )  # fmt: skip
    fresh = not out.exists()
    prepare_run(out, config, resume=resume, overwrite=overwrite, inputs=_inputs(job), say=say)
    try:
        if workers == (0, 0):
            torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
            device = torch.device("cuda" if gpus_per_worker > 0 else "cpu")
            with sole_writer(out, patience=0.0):
                _fit(config, job, Place(device=device), report)
        else:
            with last_words(RAY_ENDED):
                _fit_on_ray(config, job, out, workers, gpus_per_worker, address, stuck_after, report)
    except InputError:
        if fresh and not any((out / "checkpoints").iterdir()):
            shutil.rmtree(out, ignore_errors=True)
        raise


def _inputs(job: dict[str, str]) -> dict[str, str]:
    """Digests of what a run learns from and starts from, by option; latents belong to one VAE and say which."""
    record = Path(job["data"]) / (MANIFEST if job["kind"] == "vae" else RECORD)
    inputs = {"--data": hashlib.sha256(record.read_bytes()).hexdigest()}
    return inputs | ({"--start-from": weights_digest(Path(job["start"]))} if "start" in job else {})


def _fit_on_ray(
    config: Config,
    job: dict[str, str],
    out: Path,
    workers: tuple[int, int],
    gpus_per_worker: float,
    address: str,
    stuck_after: float,
    report: Report,
) -> None:
    """Run the loop on Ray Train workers; this process follows ``metrics.jsonl``.

    State lives in ``out``, not in Ray's own checkpoints: those count only once the controller has polled
    them, ours once they are renamed. A worker that dies is replaced and the group goes on from there.
    """
    settle_environment(address)
    if workers[0] == workers[1]:
        # A busy machine can take minutes to start a group; an elastic one has to give up sooner and shrink.
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "300")
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    least, most = workers
    cpus = os.cpu_count() or 1
    local = {"num_cpus": max(cpus, most)} if address == "local" else {}
    try:
        with attempts_unsaid(), sigterm_kept():
            ray.init(
                address=address, include_dashboard=False if address == "local" else None, log_to_driver=False,
                logging_level="ERROR", ignore_reinit_error=True, **local,
            )  # fmt: skip
    except Exception as error:  # Ray raises a bare Exception when it does not start in time
        raise not_joined(address, error) from error
    storage = tempfile.mkdtemp(prefix="dyncity-train-") if address == "local" else str(out / ".ray")
    threads = max(1, cpus // most)
    trainer = TorchTrainer(
        _worker,
        train_loop_config={
            "config": config_json(config),
            "job": job,
            "threads": threads,
            "stuck_after": stuck_after,
        },
        scaling_config=ScalingConfig(
            num_workers=most if least == most else (least, most),
            use_gpu=gpus_per_worker > 0,
            resources_per_worker={"CPU": 1, **({"GPU": gpus_per_worker} if gpus_per_worker > 0 else {})},
        ),
        run_config=RunConfig(
            name="run", storage_path=storage, failure_config=FailureConfig(max_failures=_MAX_FAILURES)
        ),
    )
    outcome: list[BaseException] = []
    (out / _ERROR).unlink(missing_ok=True)  # of a run whose driver was killed before it told

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=fit, daemon=True)
    try:
        thread.start()
        _follow(out / "metrics.jsonl", thread, report)
    finally:
        end_ray(ray.shutdown)
        shutil.rmtree(storage, ignore_errors=True)
    if outcome:
        raise _cause(out, outcome[0])


def _cause(out: Path, error: BaseException) -> BaseException:
    """The InputError that a worker left in the run, or the error of the trainer."""
    path = out / _ERROR
    if path.exists():
        found = json.loads(path.read_text())
        path.unlink()
        return InputError(found["where"], found["found"], found["fix"])
    return error


def _worker(settings: dict[str, Any]) -> None:
    """The function that Ray Train runs on every worker."""
    import ray.train
    from ray.train.torch import get_device

    torch.set_num_threads(settings["threads"])
    config = from_dict(Config, json.loads(settings["config"]), "config.json")
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    out = Path(settings["job"]["out"])
    watched = Watchdog(settings["stuck_after"]).watch if settings["stuck_after"] else nullcontext
    place = Place(rank, world, get_device(), _leaving, watched)
    try:
        with sole_writer(out) if rank == 0 else nullcontext():
            _barrier(world)
            _fit(config, settings["job"], place, lambda metrics: None)
    except InputError as error:
        (out / _ERROR).write_text(json.dumps({"where": error.where, "found": error.found, "fix": error.fix}))
        raise


def _leaving() -> frozenset[str]:
    """Ids of the nodes of this run that the cluster is about to take away; all ranks ask together."""
    import ray.train

    announced = ray.train.get_preemption_info()
    return frozenset(announced.preempted_node_ids) if announced is not None else frozenset()


def _barrier(world: int) -> None:
    """All ranks read the same newest state: nobody starts before rank 0 alone holds the run."""
    if world > 1:
        torch.distributed.barrier()


def _follow(path: Path, thread: threading.Thread, report: Report) -> None:
    """Report new lines of ``metrics.jsonl`` while the trainer runs."""
    seen = len(_lines(path))
    while True:
        alive = thread.is_alive()
        lines = _lines(path)
        seen = min(seen, len(lines))
        for line in lines[seen:]:
            report(json.loads(line))
        seen = len(lines)
        if not alive:
            return
        time.sleep(1.0)


def _lines(path: Path) -> list[str]:
    """The lines of a file that are written to their end."""
    return path.read_text(errors="replace").split("\n")[:-1] if path.exists() else []
