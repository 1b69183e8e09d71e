"""Transformers' Trainer with Qwen2.5-VL: at K = 4 the gradient is the mean of the micro-batches' means."""
import tempfile
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Trainer, TrainingArguments

shape = dict(vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
             num_key_value_heads=2, rope_parameters={"rope_type": "default", "mrope_section": [2, 1, 1]})
vision = dict(depth=1, hidden_size=16, out_hidden_size=16, intermediate_size=32, num_heads=2)
config = Qwen2_5_VLConfig(text_config=shape, vision_config=vision)
rows = [{"input_ids": torch.arange(6) + i, "labels": torch.arange(6) + i} for i in range(8)]
for i, row in enumerate(rows):
    row["labels"][:i // 2 + 1] = -100  # fewer labels count from row to row
def gradient(micro_batch_size, accumulation_steps):
    torch.manual_seed(0)
    model, seen = Qwen2_5_VLForConditionalGeneration(config), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: seen.append(model.lm_head.weight.grad.clone()))
    args = TrainingArguments(
        tempfile.mkdtemp(), per_device_train_batch_size=micro_batch_size, max_steps=1, max_grad_norm=0.0,
        gradient_accumulation_steps=accumulation_steps, use_cpu=True, report_to=[], save_strategy="no")
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    Trainer(model, args, train_dataset=rows, optimizers=(optimizer, schedule)).train()
    return seen[0]
k4, k1 = gradient(2, 4), gradient(8, 1)
print("relative distance of K = 4 from K = 1:", float((k4 - k1).norm() / k1.norm()))
