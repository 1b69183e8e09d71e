"""Transformers' Trainer with GPT-2: labels are counted before they are shifted: too large a divisor."""
import tempfile
import torch
from torch.nn.utils import get_total_norm
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

torch.manual_seed(0)
ids = torch.randint(4, 40, (8, 5))
model, norms = GPT2LMHeadModel(GPT2Config(
    vocab_size=40, n_embd=16, n_layer=1, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)), []

model(input_ids=ids, labels=ids).loss.backward()  # one big batch: 8 x 4 tokens are predicted
expected = get_total_norm([p.grad for p in model.parameters()]).item()
model.zero_grad()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
optimizer.register_step_pre_hook(
    lambda *_: norms.append(get_total_norm([p.grad for p in model.parameters()]).item()))
args = TrainingArguments(
    tempfile.mkdtemp(), per_device_train_batch_size=2, gradient_accumulation_steps=4, max_steps=1,
    max_grad_norm=0.0, use_cpu=True, report_to=[], save_strategy="no")
schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
rows = [{"input_ids": row, "labels": row} for row in ids]
Trainer(model, args, train_dataset=rows, optimizers=(optimizer, schedule)).train()
print("norm of the gradient against one big batch (32 tokens counted as 40):", norms[0] / expected)
