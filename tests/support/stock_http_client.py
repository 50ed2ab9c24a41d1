"""Runs in an environment that holds `tritonclient[http]` and nothing of ours.

Reads one JSON object from stdin: `address`, `model`, `inputs` (name → `{"datatype", "data"}`), `version`. Prints one:
the server's and the model's metadata, whether it is ready, the probabilities by the way in which they were asked for,
an error.
"""

import asyncio
import json
import sys

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

_DTYPES = {"BYTES": np.object_, "INT64": np.int64, "FP32": np.float32, "FP64": np.float64}


def _inputs(module, question, binary):
    inputs = []
    for name, tensor in question["inputs"].items():
        data = np.array(tensor["data"], dtype=_DTYPES[tensor["datatype"]])
        inputs.append(module.InferInput(name, list(data.shape), tensor["datatype"]))
        inputs[-1].set_data_from_numpy(data, binary_data=binary)
    return inputs


def _outputs(module, binary):
    return [module.InferRequestedOutput("probability", binary_data=binary)]


def _ask(client, question):
    """The same question in every way that the client has."""
    model, json_in, binary_in = question["model"], _inputs(triton, question, False), _inputs(triton, question, True)
    yield "json", client.infer(model, json_in, outputs=_outputs(triton, False))
    yield "binary", client.infer(model, binary_in, outputs=_outputs(triton, True))
    yield "binary in, json out", client.infer(model, binary_in, outputs=_outputs(triton, False))
    yield "no outputs named", client.infer(model, json_in)
    yield "version", client.infer(model, binary_in, model_version=question["version"])
    yield "timeout", client.infer(model, binary_in, timeout=30_000_000)
    for algorithm in ("gzip", "deflate"):
        yield (
            algorithm,
            client.infer(
                model,
                binary_in,
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            ),
        )
    for number, waiting in enumerate([client.async_infer(model, binary_in) for _ in range(4)]):
        yield f"async {number}", waiting.get_result()


async def _ask_aio(question):
    async with triton_aio.InferenceServerClient(question["address"]) as client:
        return await client.infer(question["model"], _inputs(triton_aio, question, True))


def _error(client, question):
    try:
        client.infer(question["model"], _inputs(triton, question, False)[:1])
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return None


def main():
    question = json.load(sys.stdin)
    model = question["model"]
    with triton.InferenceServerClient(question["address"], concurrency=4) as client:
        answers = dict(_ask(client, question)) | {"aio": asyncio.run(_ask_aio(question))}
        told = client.infer(
            model,
            _inputs(triton, question, True),
            request_id="stock-http",
            parameters={"as_of": "2013-01-01T10:00:00Z"},
            headers={"x-slipway-variant": "challenger"},
        ).get_response()
        answer = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready() and client.is_model_ready(model, question["version"]),
            "unknown_ready": client.is_model_ready("unknown"),
            "server": client.get_server_metadata(),
            "model": client.get_model_metadata(model),
            "probabilities": {way: result.as_numpy("probability").tolist() for way, result in answers.items()},
            "id": told["id"],
            "parameters": told["parameters"],
            "index": client.get_model_repository_index(),
            "loaded": client.load_model(model) is None,
            "error": _error(client, question),
        }
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
