"""Runs in an environment that holds `tritonclient[grpc]` and nothing of ours.

Reads one JSON object from stdin: `address`, `model`, `inputs` (name → `{"datatype", "data"}`), optional `parameters`,
`headers` and `request_id`. Prints one: the server's and the model's metadata, whether it is ready, the outputs.
"""

import json
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


def main():
    question = json.load(sys.stdin)
    model = question["model"]
    with triton.InferenceServerClient(question["address"]) as client:
        result = client.infer(
            model,
            [_input(name, tensor) for name, tensor in question["inputs"].items()],
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
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
