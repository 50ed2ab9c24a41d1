"""Which version scores: looked up in MLflow, and through the checks that serving makes."""

from __future__ import annotations

from services.chassis.errors import NotFound
from services.inference.artifacts import Artifacts
from services.inference.contract import parse_contract
from services.inference.loaded_model import LoadedModel, load
from services.inference.registry import ModelRegistry

_MAX_CONTRACT_BYTES = 4 * 1024 * 1024


async def find_version(registry: ModelRegistry, model: str, asked: str, max_bytes: int) -> LoadedModel:
    """The version of `model` that the alias or number `asked` names.

    Raises NotFound if there is no such alias, Refused (Invalid) if the version fails a check, Unavailable.
    """
    number = asked if asked.isdecimal() else (await registry.aliases(model)).get(asked)
    if number is None:
        raise NotFound(f"--model: {model!r} has no alias {asked!r}; give one that it has, or the number of a version")
    version = await registry.describe(model, number)
    folder = await registry.artifacts_of(version)
    contract = parse_contract(await registry.download(folder, "contract.json", _MAX_CONTRACT_BYTES), model)
    onnx = await registry.download(folder, "model.onnx", max_bytes)
    return load(Artifacts(version=version, contract=contract), onnx)
