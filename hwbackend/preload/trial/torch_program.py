"""An unmodified PyTorch program: `train` or `generate`; prints a digest of what it computed.

Deterministic algorithms throughout, so two runs differ only where something is wrong.
"""

import hashlib
import json
import os
import sys
import time

import torch

ROUNDS = 9
STEPS = 5


def _digest(tensors: list[torch.Tensor]) -> str:
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().float().cpu().numpy().tobytes())
    return found.hexdigest()[:24]


def _train() -> tuple[str, float]:
    layer = torch.nn.TransformerEncoderLayer(1024, 16, 4096, dropout=0.0, batch_first=True)
    model = torch.nn.TransformerEncoder(layer, 6, enable_nested_tensor=False).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    made = torch.Generator(device="cuda")
    made.manual_seed(1)
    times = []
    for _ in range(ROUNDS):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for step in range(STEPS):
            length = 256 + 64 * (step % 5)  # so that sizes of blocks differ
            batch = torch.randn(64, length, 1024, device="cuda", generator=made)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cuda", torch.bfloat16):
                loss = (model(batch).float() - batch).square().mean()
            loss.backward()
            optimizer.step()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    found = _digest([loss, *model.parameters()])
    return found, min(times[1:])


def _generate() -> tuple[str, float]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=8192, hidden_size=1024, intermediate_size=2816, num_hidden_layers=12,
        num_attention_heads=16, num_key_value_heads=4, max_position_embeddings=2048,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.bfloat16).cuda().eval()
    prompts = torch.randint(8192, (4, 64), generator=torch.Generator().manual_seed(2)).cuda()
    times, found = [], []
    for _ in range(5):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        tokens = model.generate(
            prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=64, do_sample=False,
            pad_token_id=0,
        )  # fmt: skip
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
        found.append(tokens)
    return _digest(found), min(times[1:])


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
