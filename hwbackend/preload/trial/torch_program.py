"""An unmodified PyTorch program: `train` or `generate`; prints a digest of what it computed.

Deterministic algorithms throughout, so two runs differ only where something is wrong. With `turns`
behind the word a round is a single step, or two tokens, and waits until it is told to begin.
"""

import hashlib
import json
import os
import sys

import torch

from vsim.hwbackend.preload.trial.rounds import WORD, run_rounds

IN_TURNS = WORD in sys.argv[1:]
STEPS = 1 if IN_TURNS else 5
TOKENS = 2 if IN_TURNS else 64


def _digest(tensors: list[torch.Tensor]) -> str:
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().float().cpu().numpy().tobytes())
    return found.hexdigest()[:24]


def _settle() -> None:
    torch.zeros(1, device="cuda")
    torch.cuda.synchronize()


def _train() -> tuple[str, float]:
    layer = torch.nn.TransformerEncoderLayer(1024, 16, 4096, dropout=0.0, batch_first=True)
    model = torch.nn.TransformerEncoder(layer, 6, enable_nested_tensor=False).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    made = torch.Generator(device="cuda")
    made.manual_seed(1)

    def steps(number: int) -> None:
        for step in range(number * STEPS, (number + 1) * STEPS):
            length = 256 + 64 * (step % 5)  # so that sizes of blocks differ
            batch = torch.randn(64, length, 1024, device="cuda", generator=made)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cuda", torch.bfloat16):
                loss = (model(batch).float() - batch).square().mean()
            loss.backward()
            optimizer.step()

    times = run_rounds(steps, _settle, alone=9, first=5 if IN_TURNS else 1)
    return _digest(list(model.parameters())), min(times)


def _generate() -> tuple[str, float]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(  # SmolLM2 135M, of drawn weights
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=8192,
        rope_theta=100000.0, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.bfloat16).cuda().eval()
    prompts = torch.randint(49152, (4, 64), generator=torch.Generator().manual_seed(2)).cuda()
    found = []

    def generate(number: int) -> None:
        tokens = model.generate(
            prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=TOKENS,
            min_new_tokens=TOKENS, do_sample=False, pad_token_id=0,
        )  # fmt: skip
        found.append(tokens)

    times = run_rounds(generate, _settle, alone=5, first=2 if IN_TURNS else 1)
    return _digest(found), min(times)


def main() -> None:
    """Run one of the two and print its digest, its seconds and what PyTorch says of memory."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(0)
    trains = sys.argv[1] == "train"
    torch.use_deterministic_algorithms(
        True, warn_only=not trains
    )  # generating adds up in any order
    # The backward passes of these differ from run to run, under deterministic algorithms too.
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
    digest, work_s = _train() if trains else _generate()
    reserved = torch.cuda.max_memory_reserved()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    print(json.dumps({"digest": digest, "work_s": work_s, "peak_reserved": reserved}))


if __name__ == "__main__":
    main()
