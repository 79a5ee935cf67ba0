"""Workers as replicas of Ray Serve, on this machine or on a cluster.

They share the station's folder (a network file system) and its PostgreSQL with the server, and take
work from the same queue as other workers do: Ray starts them, places them, and replaces those that
die or hang.
"""

import logging
import os
import secrets
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scene import InputError

from .database import Database, open_database
from .models import Models, uses_cpu
from .queue import is_overdue
from .settings import StationSettings

_NAME = "splatpose-station"
_HEALTH_SECONDS = 2.0  # between two looks at a replica
_STAY_LOCAL = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0": Ray listens on this machine alone
_ROOT = Path(__file__).resolve().parent.parent
_log = logging.getLogger(__name__)


class Replica:
    """One worker inside a replica."""

    def __init__(self, settings: str) -> None:
        from .worker import Worker, limit_memory

        self.settings = StationSettings.load(settings)
        self.database = open_database(self.settings.database)
        self.owner, models = secrets.token_hex(16), Models(self.settings)
        self.worker = Worker(self.settings, self.database, self.owner, models, os.getppid())
        self.worker.open_models(self.settings.models)
        if sys.platform == "linux" and uses_cpu(self.settings):
            limit_memory(self.settings.decode_memory)
        self.thread = threading.Thread(target=self.worker.run, daemon=True)
        self.thread.start()

    def check_health(self) -> None:
        """Ray replaces a replica for which this raises."""
        if not self.thread.is_alive():
            raise RuntimeError("the worker ended")
        if is_overdue(self.database, self.owner, self.settings.time_limit):
            raise RuntimeError("an inspection takes too long")

    def __call__(self) -> str:
        """Who this is."""
        return self.owner

    def __del__(self) -> None:
        self.worker.stopping.set()
        self.thread.join(self.settings.lease)


@dataclass
class RayEngine:
    """Takes the place of `Supervisor`."""

    settings: StationSettings
    database: Database
    address: str = ""  # of a cluster; "": Ray is started here
    restarts: int = 0

    def start(self) -> None:
        """Starts Ray and the replicas. Raises InputError without Ray or without the cluster."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
        if not self.address:
            os.environ.setdefault(_STAY_LOCAL, "0")  # read when ray is imported
        try:
            import ray
            from ray import serve
        except ModuleNotFoundError as error:
            raise InputError(
                "--engine ray needs Ray Serve: pip install 'ray[serve]', or leave --engine out"
            ) from error
        path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        try:
            ray.init(
                self.address or None, include_dashboard=None if self.address else False,
                log_to_driver=False, logging_level=logging.WARNING,
                num_cpus=None if self.address else self.settings.workers + 1,
                runtime_env={"env_vars": {"PYTHONPATH": path}},
            )  # fmt: skip
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(
                f"no Ray cluster answers at '{self.address}' ({error}): start one with ray start "
                "--head, or leave --ray-address out"
            ) from error
        needs: dict[str, Any] = {"num_cpus": 1}
        if not uses_cpu(self.settings):
            needs["num_gpus"] = 1
        deployment = serve.deployment(
            Replica, name="worker", num_replicas=self.settings.workers, ray_actor_options=needs,
            health_check_period_s=_HEALTH_SECONDS, max_ongoing_requests=1,
        )  # fmt: skip
        serve.start(proxy_location="Disabled")
        serve.run(deployment.bind(self.settings.dump()), name=_NAME, route_prefix=None)

    def stop(self) -> None:
        """Ends the replicas; their work goes back when its leases run out, or is finished."""
        import ray
        from ray import serve

        serve.delete(_NAME)
        if not self.address:
            serve.shutdown()
        ray.shutdown()

    @property
    def processes(self) -> list[int]:
        """One number for each replica that runs."""
        from ray import serve

        found = serve.status().applications.get(_NAME)
        if found is None:
            return []
        states = found.deployments["worker"].replica_states
        return list(range(int(states.get("RUNNING", 0))))
