"""Runs in an environment that holds `tritonclient[grpc]` and nothing of ours.

Reads one JSON object from stdin: `address`, `model`, `inputs` (name → `{"datatype", "data"}`), optional `parameters`,
`headers` and `request_id`. Prints one: the server's and the model's metadata, whether it is ready, the outputs; with
`whole` also what comes of the other ways to call and of the model repository.
"""

import json
import queue
import sys

import numpy as np
import tritonclient.grpc as triton
from google.protobuf.json_format import MessageToDict

_DTYPES = {"BYTES": np.object_, "INT64": np.int64, "FP32": np.float32, "FP64": np.float64}


def _input(name, tensor):
    data = np.array(tensor["data"], dtype=_DTYPES[tensor["datatype"]])
    wanted = triton.InferInput(name, data.shape, tensor["datatype"])
    wanted.set_data_from_numpy(data)
    return wanted


def _wait(send):
    """What a callback of the client is given."""
    answers = queue.Queue()
    send(lambda result, error: answers.put((result, error)))
    result, error = answers.get(timeout=30)
    if error is not None:
        raise error
    return result.as_numpy("probability").tolist()


def _streamed(client, model, inputs):
    def send(callback):
        client.start_stream(callback)
        client.async_stream_infer(model, inputs)

    try:
        return _wait(send)
    finally:
        client.stop_stream()


def _refused(call):
    try:
        call()
    except triton.InferenceServerException as error:
        return f"{error.status()}: {error.message()}"
    return ""


def _whole(client, model, inputs):
    client.load_model(model)
    return {
        "async": _wait(lambda callback: client.async_infer(model, inputs, callback)),
        "stream": _streamed(client, model, inputs),
        "index": MessageToDict(client.get_model_repository_index())["models"],
        "unload": _refused(lambda: client.unload_model(model)),
        "load_other": _refused(lambda: client.load_model("other")),
        "load_files": _refused(lambda: client.load_model(model, config="{}", files={"file:1/model.onnx": b"x"})),
        "output": _refused(lambda: client.infer(model, inputs, outputs=[triton.InferRequestedOutput("label")])),
        "version": _refused(lambda: client.infer(model, inputs, model_version="99")),
    }


def main():
    question = json.load(sys.stdin)
    model = question["model"]
    inputs = [_input(name, tensor) for name, tensor in question["inputs"].items()]
    with triton.InferenceServerClient(question["address"]) as client:
        result = client.infer(
            model,
            inputs,
            outputs=[triton.InferRequestedOutput("probability")],
            request_id=question.get("request_id", ""),
            parameters=question.get("parameters"),
            headers=question.get("headers"),
        )
        response = result.get_response()
        answer = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready() and client.is_model_ready(model),
            "server": MessageToDict(client.get_server_metadata()),
            "model": MessageToDict(client.get_model_metadata(model), preserving_proto_field_name=True),
            "version": response.model_version,
            "id": response.id,
            "outputs": {output.name: result.as_numpy(output.name).tolist() for output in response.outputs},
            "parameters": MessageToDict(response, preserving_proto_field_name=True)["parameters"],
        }
        if question.get("whole"):
            answer["whole"] = _whole(client, model, inputs)
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
