"""Random models from gcomp's generators run through other ONNX engines, and what these get wrong."""
