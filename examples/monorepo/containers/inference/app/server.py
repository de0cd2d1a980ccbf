"""Answers for the spending of customers, and for the geometry of a scene."""

import json
import os
import subprocess
from pathlib import Path

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

MODEL = Path(os.environ.get("ML_MODEL_DIR", "/opt/ml/model")) / "model.json"

app = FastAPI(title="inference")
weights: list[float] = json.loads(MODEL.read_text())["weights"]


class Request(BaseModel):
    """One row of features for each customer."""

    instances: list[list[float]] = Field(max_length=1000)


@app.get("/ping")
def ping() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/invocations")
def invocations(request: Request) -> dict[str, list[float]]:
    if any(len(row) != len(weights) - 1 for row in request.instances):
        raise HTTPException(422, f"an instance has {len(weights) - 1} features")
    return {"predictions": [sum(w * x for w, x in zip(weights, row)) + weights[-1] for row in request.instances]}


@app.get("/scene/{seed}")
def scene(seed: int) -> dict[str, float]:
    """The reprojection error of a made-up scene, by the tool of the `sfm` container."""
    done = subprocess.run(["sfm", "--seed", str(seed), "--json"], check=True, capture_output=True, timeout=30)
    return json.loads(done.stdout)
