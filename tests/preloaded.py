"""What the servers of `tests.processes` and `tests.commands` import before they fork; none may start a thread."""

import lightning  # noqa: F401
import torch  # noqa: F401
import transformers  # noqa: F401
from transformers import BertForSequenceClassification  # noqa: F401

import sharcs_pl.pipeline.build
import sharcs_pl.pipeline.results
import sharcs_pl.pipeline.validate  # noqa: F401
from tests.conftest import TINY, compose_config

compose_config(*TINY)  # parsers and plugins, too
