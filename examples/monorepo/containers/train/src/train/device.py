"""Which device there is to compute on."""

import os


def describe() -> str:
    """`cpu`, or the name of the first GPU that the driver knows."""
    if os.environ.get("TRAIN_VARIANT") != "gpu":
        return "cpu"
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return f"cpu (no GPU: {error})"
    return pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))
