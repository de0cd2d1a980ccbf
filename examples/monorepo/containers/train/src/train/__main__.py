"""`python -m train`: fits the model and writes its weights as JSON into the model folder."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from common import load_settings, log
from train import device, model


def main() -> int:
    settings = load_settings(Path("/opt/ml/input/config/settings.yaml"))
    parser = argparse.ArgumentParser(prog="train", description=__doc__)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--model-dir", type=Path, default=Path(settings.model_dir))
    args = parser.parse_args()

    log("start", device=device.describe(), rows=args.rows, epochs=args.epochs)
    features, target = model.sample(args.rows, settings.seed)
    fitted = model.fit(features, target, args.epochs)
    error = float(np.sqrt(np.mean((fitted.predict(features) - target) ** 2)))

    args.model_dir.mkdir(parents=True, exist_ok=True)
    result = {"weights": [round(weight, 6) for weight in fitted.weights.tolist()], "rmse": round(error, 6)}
    (args.model_dir / "model.json").write_text(json.dumps(result))
    print(json.dumps(result))
    return 0 if error < 1.0 else 1


sys.exit(main())
