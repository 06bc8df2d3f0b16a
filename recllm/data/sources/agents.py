"""What kind of device a user agent is, by the `user-agents` library. The only file that imports it."""

from typing import Any

import duckdb
import pyarrow as pa

from recllm.errors import MissingExtraError

NATIVE = "Native Mobile App"  # how feeds with an app of their own end its name; no browser says so


def _parser() -> Any:
    try:
        import user_agents
    except ImportError:
        raise MissingExtraError("device from a user agent needs user-agents, which is not installed: "
                                "pip install 'recllm[devices]'") from None
    return user_agents


def device_of(agent: str) -> tuple[str | None, str | None]:
    """(device: app, desktop, mobile, tablet or bot; operating system) of one user agent; None where it cannot be told."""
    if agent.endswith(NATIVE):
        return "app", agent.split(" ")[0]
    parsed = _parser().parse(agent)
    kinds = {"bot": parsed.is_bot, "tablet": parsed.is_tablet, "mobile": parsed.is_mobile, "desktop": parsed.is_pc}
    system = parsed.os.family
    return next((kind for kind, found in kinds.items() if found), None), None if system == "Other" else system


def register_devices(connection: duckdb.DuckDBPyConnection, relation: str, column: str, name: str) -> None:
    """A table `name` (agent, device, system) of the distinct agents in a column: each is parsed once, however often it was logged."""
    agents = [row[0] for row in connection.execute(f"SELECT DISTINCT {column} FROM {relation} WHERE {column} IS NOT NULL").fetchall()]
    found = [device_of(agent) for agent in agents]
    connection.register(name, pa.table({"agent": pa.array(agents, pa.string()), "device": pa.array([d for d, _ in found], pa.string()),
                                        "system": pa.array([s for _, s in found], pa.string())}))
