"""Inference over HTTP: the Open Inference Protocol in REST, and the container contracts of SageMaker and Vertex AI.

| module | what it knows |
|---|---|
| `api.py` | the application: which path is answered by whom |
| `infer.py` | the hot path: an infer call from bytes to bytes, past the framework |
| `caller.py` | one call: its headers, its deadline, its count, its error as an HTTP status |
| `together.py` | calls of one turn of the loop: one ONNX run |
| `bodies.py` | a request's bytes: how many, in which time, compressed how |
| `open_inference.py` | the protocol's JSON and its binary extension, to and from its protobuf messages |
| `elements.py` | elements of a tensor as JSON values and as raw bytes |
| `tables.py` | rows of clouds (`instances`, CSV) as tensors |
| `repository.py` | the model repository extension |
| `clouds.py` | the routes that SageMaker and Vertex AI ask, and the port that they name |
| `documentation.py` | what /docs tells of bodies |
"""
