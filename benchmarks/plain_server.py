"""A plain server: a stock transformers classifier behind LitServe, as one would write it in ten minutes.

Run: ``python benchmarks/plain_server.py --model $RUN/model --port 8001``. The model has the encoder of a trained run
and random weights, since only its speed is measured.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import litserve as ls
import torch
from fastapi import Request
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast


class Plain(ls.LitAPI):
    """Batches of requests as they come, padded to the longest text."""

    def __init__(self, folder: str, length: int, **options: Any) -> None:
        super().__init__(**options)
        self.folder, self.length = folder, length

    def setup(self, device: Any) -> None:
        encoder = json.loads((Path(self.folder) / "config.json").read_text())["encoder"]
        kind = encoder.pop("model_type")
        config = AutoConfig.for_model(kind, **encoder)
        self.model = AutoModelForSequenceClassification.from_config(config).eval()
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(self.folder)

    def decode_request(self, request: Request, **kwargs: Any) -> str:
        return request["text"]  # pyright: ignore[reportIndexIssue]  (LitServe hands over what its JSON holds)

    @torch.inference_mode()
    def predict(self, x: list[str], **kwargs: Any) -> list[list[float]]:
        batch = self.tokenizer(x, padding=True, truncation=True, max_length=self.length, return_tensors="pt")
        return self.model(**batch).logits.softmax(-1).tolist()

    def encode_response(self, output: list[float], **kwargs: Any) -> dict[str, list[float]]:
        return {"probabilities": output}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--length", type=int, default=128)
    args = parser.parse_args()
    api = Plain(args.model, args.length, max_batch_size=32, batch_timeout=0.005)
    server = ls.LitServer(api, accelerator="cpu", timeout=60)
    server.run("127.0.0.1", args.port, num_api_servers=1, log_level="error", generate_client_file=False)


if __name__ == "__main__":
    main()
