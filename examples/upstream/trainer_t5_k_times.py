"""Transformers' Trainer with T5: at K = 4 the gradient is 4 times one batch's."""
import tempfile
import torch
from transformers import T5Config, T5ForConditionalGeneration, Trainer, TrainingArguments

shape = dict(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0)
config = T5Config(**shape, decoder_start_token_id=0)
rows = [{"input_ids": torch.arange(5, 11) + i, "labels": torch.arange(9, 15) + i} for i in range(8)]

def gradient_norm(micro_batch_size, accumulation_steps):
    torch.manual_seed(0)
    model, norms = T5ForConditionalGeneration(config), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: norms.append(
        torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])))
    args = TrainingArguments(
        tempfile.mkdtemp(), per_device_train_batch_size=micro_batch_size, max_steps=1, max_grad_norm=0.0,
        gradient_accumulation_steps=accumulation_steps, use_cpu=True, report_to=[], save_strategy="no")
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    Trainer(model, args, train_dataset=rows, optimizers=(optimizer, schedule)).train()
    return norms[0].item()

print("norm of the gradient, K = 4 against K = 1:", gradient_norm(2, 4) / gradient_norm(8, 1))
