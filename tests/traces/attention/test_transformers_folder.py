"""A Hugging Face folder as a model, on a small Llama that is drawn and saved here."""

from pathlib import Path

import numpy as np
import pytest

from vsim.traces.faults import InputError
from vsim.traces.recorders.model import AttentionRead

torch = pytest.importorskip("torch", reason="a model folder needs torch")
transformers = pytest.importorskip("transformers", reason="a model folder needs transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    path = tmp_path_factory.mktemp("tiny-llama")
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=256,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(path)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(path)
    return path


TOKENS = [int(t) for t in np.random.Generator(np.random.PCG64(4)).integers(0, 256, 180)]


def test_logits_and_attention_are_those_of_transformers_own_eager_attention(folder: Path) -> None:
    from vsim.traces.recorders.transformers_folder import FolderModel

    eager = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    with torch.inference_mode():
        expected = eager(torch.tensor([TOKENS]), output_attentions=True)
    seen: list[tuple[int, int, np.ndarray]] = []

    def look(read: AttentionRead) -> None:
        heads = read.probabilities.reshape(4, *read.probabilities.shape[2:])
        seen.append((read.layer, read.probabilities.shape[-1], heads))

    found = FolderModel(folder).read(TOKENS, look)
    assert np.allclose(found, expected.logits[0].numpy(), atol=1e-4)
    for layer, context, probabilities in seen:
        own = expected.attentions[layer][0].numpy()
        rows = own[:, context - probabilities.shape[1] : context, :context]
        assert np.allclose(probabilities, rows, atol=1e-5)
    assert {layer for layer, _, _ in seen} == {0, 1}


def test_logits_do_not_depend_on_how_the_text_is_cut(folder: Path) -> None:
    from vsim.traces.recorders.transformers_folder import FolderModel

    model = FolderModel(folder)
    whole = model.read(TOKENS)[-1]
    model.cut(100)
    for token in TOKENS[100:]:
        last = model.read([token])[-1]
    assert np.allclose(last, whole, atol=1e-4)
    model.cut(0)
    assert np.allclose(model.read(TOKENS)[-1], whole, atol=1e-4)


def test_a_mask_from_the_observer_hides_tokens(folder: Path) -> None:
    from vsim.traces.recorders.transformers_folder import FolderModel

    def only_own(read: AttentionRead) -> np.ndarray:
        heads, _, count, tokens = read.probabilities.shape
        own = np.arange(tokens)[None, :] == np.arange(tokens - count, tokens)[:, None]
        return np.broadcast_to(own, (heads, count, tokens)).copy()

    masked = FolderModel(folder).read([7, 7, 7], only_own)
    assert np.allclose(masked[0], masked[2], atol=1e-5)


def test_text_survives_tokens(folder: Path) -> None:
    from vsim.traces.recorders.transformers_folder import FolderModel

    model = FolderModel(folder)
    assert model.decode(model.encode("12 pages of text")) == "12 pages of text"


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    from vsim.traces.recorders.transformers_folder import FolderModel

    (tmp_path / "config.json").write_text('{"model_type": "nothing"}')
    with pytest.raises(InputError, match=r"is no folder of a Hugging Face causal model"):
        FolderModel(tmp_path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")
def test_a_gpu_records_the_attention_that_a_cpu_records(folder: Path) -> None:
    from vsim.traces.recorders.transformers_folder import FolderModel

    recorded: dict[str, list[np.ndarray]] = {"cpu": [], "cuda": []}
    for device, seen in recorded.items():

        def keep(read: AttentionRead, seen: list[np.ndarray] = seen) -> None:
            seen.append(read.probabilities)

        FolderModel(folder, device).read(TOKENS, keep)
    for on_cpu, on_gpu in zip(recorded["cpu"], recorded["cuda"], strict=True):
        assert np.allclose(on_cpu, on_gpu, atol=1e-3)


def test_a_folder_is_recorded_as_any_other_model_is(folder: Path, tmp_path: Path) -> None:
    from vsim.traces.attention import read_attention
    from vsim.traces.recorders.attention_recording import Options, record_attention
    from vsim.traces.recorders.recording import Decoding, Keeping

    (tmp_path / "p.txt").write_text("the cat sat on the mat, and the dog sat on the log. " * 4)
    record_attention(
        Options(
            prompt=tmp_path / "p.txt",
            out=tmp_path / "t.arrow",
            steps=20,
            model=str(folder),
            weights=None,
            device="cpu",
            prompt_tokens=None,
            decoding=Decoding("sample", seed=1),
            page_tokens=8,
            keeping=Keeping(),
            floats=False,
            cost=tmp_path / "c.json",
            source="cats",
            licence="CC0-1.0",
        )
    )
    trace = read_attention(tmp_path / "t.arrow")
    assert (trace.prompt_tokens, trace.steps, len(trace)) == (208, 20, 20 * 2 * 2)
    assert trace.page_bytes == 8 * 2 * 8 * 2
    assert (tmp_path / "c.json").is_file()
