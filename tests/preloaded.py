"""What the server of `tests.processes` imports before it forks; nothing here may start a thread."""

import lightning  # noqa: F401
import torch  # noqa: F401
import transformers  # noqa: F401
from transformers import BertForSequenceClassification  # noqa: F401

import sharcs_pl.pipeline.build
import sharcs_pl.pipeline.results  # noqa: F401
