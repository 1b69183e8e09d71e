"""Transformers' Trainer with a RoBERTa head: at K = 4 the gradient is 4 times one batch's."""
import tempfile
import torch
from transformers import RobertaConfig, RobertaForSequenceClassification, Trainer, TrainingArguments

shape = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
config = RobertaConfig(vocab_size=40, hidden_dropout_prob=0, attention_probs_dropout_prob=0, **shape)
rows = [{"input_ids": torch.randint(4, 40, (6,)), "labels": torch.tensor(i % 2)} for i in range(8)]

def gradient_norm(micro_batch_size, accumulation_steps):
    torch.manual_seed(0)
    model, norms = RobertaForSequenceClassification(config), []
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
