"""`slipway predict`: one prediction through Envoy, as any client of the Open Inference Protocol asks for it."""

from __future__ import annotations

import struct
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from services.chassis.clock import rfc3339
from services.chassis.errors import Invalid
from services.cli import values
from services.cli.display import coloured, facts, out
from services.cli.rpc import TIMEOUT_S, calls
from services.cli.settings import cli_settings
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2_grpc as rpc

_OUTPUT = "probability"


def predict(
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=VALUE...", help="Entity id, join keys, request fields.")
    ] = None,
    key: Annotated[str, typer.Option(help="Routing key; default: drawn anew for each call.")] = "",
    as_of: Annotated[
        datetime | None,
        typer.Option(parser=values.moment, metavar="MOMENT", help="The moment it speaks for; default: now."),
    ] = None,
    request_id: Annotated[str, typer.Option("--id", help="Becomes the prediction's id.")] = "",
) -> None:
    """Ask for one prediction. Without arguments it lists what the model wants to know.

    Example: `slipway predict order_id=o-17 shop=s-3 weight_kg=1.5 --as-of 2013-05-01T12:00:00Z`
    """
    settings = cli_settings()
    model = settings.recipe.name
    given = values.assignments(inputs or [])
    with calls("inference", settings.envoy, rpc.GRPCInferenceServiceStub) as stub:
        metadata = stub.ModelMetadata(v2.ModelMetadataRequest(name=model), timeout=TIMEOUT_S)
        if not given:
            _show_inputs(metadata)
            return
        request = infer_request(metadata, given, as_of=as_of, request_id=request_id)
        headers = [("x-routing-key", key)] if key else []
        answer = stub.ModelInfer(request, timeout=TIMEOUT_S, metadata=headers)
    _show(answer)


def infer_request(
    metadata: v2.ModelMetadataResponse, given: dict[str, str], *, as_of: datetime | None = None, request_id: str = ""
) -> v2.ModelInferRequest:
    """One row with the datatypes that the model tells. Raises Invalid, naming the input."""
    wanted = {tensor.name: tensor.datatype for tensor in metadata.inputs}
    missing = [f"{name} ({datatype})" for name, datatype in wanted.items() if name not in given]
    unknown = [name for name in given if name not in wanted]
    if missing or unknown:
        gaps = f"missing: {', '.join(missing)}. " if missing else ""
        extra = f"unknown: {', '.join(unknown)}. " if unknown else ""
        raise Invalid(f"{gaps}{extra}{metadata.name} takes {', '.join(wanted)}")
    request = v2.ModelInferRequest(model_name=metadata.name, id=request_id)
    for name, datatype in wanted.items():
        tensor = request.inputs.add(name=name, datatype=datatype, shape=[1])
        _fill(tensor.contents, name, datatype, given[name])
    if as_of is not None:
        request.parameters["as_of"].string_param = rfc3339(as_of)
    return request


def _fill(contents: v2.InferTensorContents, name: str, datatype: str, text: str) -> None:
    try:
        if datatype == "BYTES":
            contents.bytes_contents.append(text.encode())
        elif datatype == "INT64":
            contents.int64_contents.append(int(text))
        elif datatype == "FP64":
            contents.fp64_contents.append(float(text))
        else:
            raise Invalid(f"{name}: datatype {datatype} cannot be given on the command line")
    except ValueError as error:
        raise Invalid(f"{name}: {text!r} is not of datatype {datatype}") from error


def _show_inputs(metadata: v2.ModelMetadataResponse) -> None:
    out().print(f"{escape(metadata.name)} version {', '.join(metadata.versions)} takes, each as name=value:")
    out().print(facts((f"  {tensor.name}", tensor.datatype) for tensor in metadata.inputs))


def _show(answer: v2.ModelInferResponse) -> None:
    told = {name: _parameter(parameter) for name, parameter in answer.parameters.items()}
    out().print(
        facts(
            [
                (_OUTPUT, f"{_probability(answer):.6f}"),
                ("model", escape(f"{answer.model_name} version {answer.model_version}")),
                ("variant", coloured(told.get("variant", "unknown"))),
                ("missing features", _how_many(told, "missing")),
                ("stale features", _how_many(told, "stale")),
                ("watermark", told.get("watermark", "none yet")),
                ("prediction id", escape(told.get("prediction_id", answer.id))),
            ]
        )
    )


def _how_many(told: dict[str, str], what: str) -> str:
    names = told.get(f"{what}_feature_names", "")
    return escape(f"{told.get(f'{what}_features', '0')}  {names}".strip())


def _probability(answer: v2.ModelInferResponse) -> float:
    for position, output in enumerate(answer.outputs):
        if output.name == _OUTPUT and answer.raw_output_contents:
            return float(struct.unpack("<f", answer.raw_output_contents[position])[0])
        if output.name == _OUTPUT:
            return float(output.contents.fp32_contents[0])
    raise Invalid(f"{answer.model_name} gave no output {_OUTPUT!r}")


def _parameter(parameter: Any) -> str:
    return str(getattr(parameter, parameter.WhichOneof("parameter_choice")))
