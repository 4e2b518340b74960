/**
 * Options of TRL, transformers, PEFT, Unsloth, LLaMA-Factory, axolotl, and mlx-lm, with their lowrank equivalents. Those of
 * one task or strategy are in its record.
 */
import { FOREIGN_VALUES, type ForeignKeys } from './foreign-values.js'

export const NO_PREFERENCES =
  'task: dpo and task: orpo train on pairs of answers, task: kto on good and bad ones, task: grpo on rewards; SimPO and reward models are not supported yet'
const ONE_DEVICE = 'a process uses one device, which `device` chooses: auto, cpu, cuda or cuda:N'

/** The options by topic. */
export const FOREIGN_OPTIONS: Readonly<Record<string, ForeignKeys>> = {
  'Model and weights': {
    'model_name_or_path model_name model_id base_model pretrained_model_name_or_path': { here: 'model' },
    'tokenizer_name tokenizer_config tokenizer_type resize_vocab resize_token_embeddings_to_32x special_tokens add_tokens':
      { note: "the model's own tokenizer is used, with its vocabulary unchanged" },
    model_type: { note: "the model's config.json states the family; leave the key out" },
    model_revision: { here: 'revision' },
    load_in_4bit: { here: 'quantization', values: { true: 'nf4', false: null } },
    load_in_8bit: { here: 'quantization', values: { true: 'int8', false: null } },
    load_in_16bit: { here: 'quantization', values: { true: 'none', false: null } },
    load_in_fp8: { here: 'quantization', note: 'FP8 is not supported; int8 has the same size' },
    quantization_bit: { here: 'quantization', values: { '4': 'nf4', '8': 'int8' } },
    quantization_method: {
      here: 'quantization',
      values: { bnb: 'nf4', bitsandbytes: 'nf4' },
      note: 'weights are quantized to NF4, FP4, or int8 while they are loaded',
    },
    'quantization_type quantization_config': { here: 'quantization' },
    bnb_4bit_quant_type: { here: 'quantization', values: { nf4: 'nf4', fp4: 'fp4' } },
    'bnb_4bit_use_double_quant use_bnb_nested_quant double_quantization': {
      here: 'quantization',
      values: { true: '{type: nf4, double_quant: true}', false: '{type: nf4, double_quant: false}' },
    },
    'bnb_4bit_compute_dtype compute_dtype torch_dtype dtype': { here: 'precision' },
    bf16: { here: 'precision', values: { true: 'bf16', auto: 'auto', false: 'fp32' } },
    'pure_bf16 bfloat16': { here: 'precision', values: { true: 'bf16', false: null } },
    'fp16 float16': {
      here: 'precision',
      values: { true: 'bf16', false: null },
      note: 'fp16 arithmetic is not supported; bf16 has the same size and needs no loss scaling',
    },
    float32: { here: 'precision', values: { true: 'fp32', false: null } },
    tf32: { note: 'TF32 is a GPU format; `precision` supports auto, fp32, and bf16' },
    fp8: { note: 'FP8 arithmetic is not supported; `precision` supports auto, fp32, and bf16' },
    offload_folder: { here: 'paged_weights', note: 'paged_weights: 2GiB keeps the weights in a file' },
    low_cpu_mem_usage: { note: 'weights are always loaded piece by piece; leave the key out' },
    max_memory: {
      here: 'paged_weights',
      note: 'a size such as 2GiB; `lowrank plan --fit 8GiB` finds settings that fit',
    },
    trust_remote_code: { note: "code in a model's folder is never run; leave the key out" },
    'attn_implementation flash_attn flash_attention sdp_attention xformers_attention use_unsloth use_liger_kernel enable_liger_kernel torch_compile':
      { note: 'the engine has its own kernels for attention and all other operations; leave the key out' },
    use_cache: { note: 'training uses no KV cache, and generation always does; leave the key out' },
    rope_scaling: { note: "the model's config.json states the RoPE scaling" },
    pad_token: { note: 'sequences are packed and never padded; leave the key out' },
    eos_token: { note: "the model's tokenizer and chat template define the end token" },
    'hf_hub_token hub_token token use_auth_token': {
      note: 'the hub token is read from HF_TOKEN or from the file that `hf auth login` writes',
    },
    cache_dir: { note: 'the environment variable HF_HUB_CACHE sets the folder of downloads' },
  },

  Adapter: {
    use_peft: { here: 'strategy.name', values: { true: 'lora', false: 'full' } },
    'adapter fine_tune_type': { here: 'strategy.name' },
    finetuning_type: {
      here: 'strategy.name',
      values: { freeze: 'lora' },
      note: 'use lora with layers_to_transform, or full for all weights',
    },
    full_finetuning: { here: 'strategy.name', values: { true: 'full', false: 'lora' } },
    peft_type: { here: 'strategy.name', ours: true },
    'peft_config lora_config lora_parameters': { here: 'strategy' },
    'task_type lora_task_type': {
      here: 'task',
      values: { CAUSAL_LM: 'causal_lm', SEQ_CLS: 'classification' },
      note: 'task: classification trains a classifier; the other tasks train a causal language model',
    },
    num_labels: { here: 'labels', note: 'names of the classes; by default those of the data' },
    'id2label label2id': { here: 'labels', note: 'names of the classes in the order of their ids' },
    problem_type: {
      note: 'task: classification gives each row one class; several classes and numbers are not supported',
    },
    'rank lora_r lora_rank r max_lora_rank': { here: 'strategy.r' },
    alpha: { here: ['strategy.alpha', 'strategy.lora_alpha'] },
    lora_alpha: { here: ['strategy.lora_alpha', 'strategy.alpha'] },
    scale: { here: 'strategy.lora_alpha', note: 'for a scale s of mlx-lm use lora_alpha: s · r' },
    'dropout lora_dropout': { here: ['strategy.lora_dropout', 'strategy.*_dropout'] },
    'target_modules lora_target_modules keys': { here: 'strategy.target_modules' },
    lora_target: { here: 'strategy.target_modules', values: { all: 'all-linear' } },
    lora_target_linear: { here: 'strategy.target_modules', values: { true: 'all-linear', false: null } },
    exclude_modules: { here: 'strategy.exclude_modules' },
    lora_target_parameters: { note: 'single parameters cannot be targets; `target_modules` selects linears' },
    'modules_to_save lora_modules_to_save additional_target': { here: 'strategy.modules_to_save' },
    'layers_to_transform peft_layers_to_transform freeze_trainable_layers': {
      here: 'strategy.layers_to_transform',
    },
    'lora_layers num_layers finetune_last_n_layers': {
      here: 'strategy.layers_to_transform',
      note: 'a list of layer indices from 0, not a number of layers',
    },
    layers_pattern: {
      here: 'strategy.target_modules',
      note: 'a regular expression matches whole module paths',
    },
    'rank_pattern lora_rank_pattern': { here: 'strategy.rank_pattern' },
    'alpha_pattern lora_alpha_pattern': { here: 'strategy.alpha_pattern' },
    init_lora_weights: { here: ['strategy.init_lora_weights', 'strategy.init_weights'] },
    peft_init_lora_weights: { here: 'strategy.init_lora_weights' },
    init_weights: { here: ['strategy.init_weights', 'strategy.init_lora_weights'] },
    'lora_bias bias': { here: 'strategy.bias' },
    'fan_in_fan_out lora_fan_in_fan_out': {
      note: 'linears are always stored as [out, in]; leave the key out',
    },
    'adapter_name_or_path lora_model_dir resume_adapter_file': {
      here: 'init_adapter',
      note: '`lowrank train CONFIG --resume` continues an interrupted run instead',
    },
    use_galore: {
      note: 'GaLore is not supported; paged_adamw_8bit with optimizer_in_backward reduces the memory of full fine-tuning',
    },
    use_badam: {
      note: 'BAdam is not supported; paged_adamw_8bit with optimizer_in_backward reduces the memory of full fine-tuning',
    },
    unfrozen_parameters: {
      here: 'strategy.modules_to_save',
      note: 'it selects modules that are trained in full',
    },
    trainable_token_indices: {
      here: 'strategy.modules_to_save',
      note: 'embed_tokens is trained as a whole, not token by token',
    },
    merge_lora: { note: '`lowrank merge` merges an adapter after the run' },
    relora: { note: 'ReLoRA is not supported; delta-lora updates the base weight together with its adapter' },
  },

  Data: {
    'datasets data data_path dataset_path train_file train_dataset': { here: 'dataset' },
    dataset_name: { here: 'dataset', note: 'it takes files; download a dataset of the hub first' },
    'dataset_dir data_files': {
      here: 'dataset',
      note: 'a path, a list of paths, or a pattern such as data/*.jsonl',
    },
    'validation_file test_datasets valid_file': { here: 'eval_dataset' },
    dataset_train_split: { here: 'dataset', note: 'files have no splits; give the file of the split' },
    dataset_test_split: { here: 'eval_dataset', note: 'files have no splits; give the file of the split' },
    'dataset_text_field text_column text_field text_feature': { here: 'dataset.columns.text' },
    'prompt_field prompt_feature': { here: 'dataset.columns.prompt' },
    'completion_field completion_feature': { here: 'dataset.columns.completion' },
    field_messages: { here: 'dataset.columns.messages' },
    field_instruction: { here: 'dataset.columns.instruction' },
    field_input: { here: 'dataset.columns.input' },
    field_output: { here: 'dataset.columns.output' },
    field_system: { here: 'dataset.columns.system' },
    field_tools: { here: 'dataset.columns.tools' },
    message_field_role: { here: 'dataset.columns.role' },
    message_field_content: { here: 'dataset.columns.content' },
    formatting: { here: 'dataset.format' },
    ds_type: { here: 'dataset.file_type' },
    formatting_func: { note: 'in a program, pass rows as dataset(rows), in any supported format' },
    dataset_kwargs: { here: 'dataset', note: 'set in the long form {path: …, format: …}' },
    'val_size val_set_size test_size': { here: 'eval_fraction', note: 'a fraction in [0, 1)' },
    'max_samples max_train_samples': {
      note: 'the number of rows has no limit; `max_steps` ends a run early, and `head -n` makes a smaller file',
    },
    buffer_size: { here: 'dataset.shuffle_buffer_size' },
    streaming: { here: 'dataset.streaming' },
    'template conversation_template': {
      note: "chats are rendered with the chat template in the model's files, or with that of `chat_template: mine.jinja`",
    },
    'chat_template_path chat_template_jinja': { here: 'chat_template', note: 'the path of a .jinja file' },
    'default_system default_system_message system_prompt': {
      note: 'the system prompt is part of each row; `columns.system` sets its column',
    },
    'train_on_inputs train_on_prompt': { here: 'train_on', values: { true: 'all', false: 'completions' } },
    'completion_only_loss assistant_only_loss mask_prompt train_on_responses_only': {
      here: 'train_on',
      values: { true: 'completions', false: 'all' },
    },
    mask_history: { here: 'train_on', values: { true: 'last', false: 'completions' } },
    roles_to_train: { here: 'train_on', note: "completions trains on the assistant's turns" },
    train_on_eos: { note: 'the end token of an answer is always trained on; leave the key out' },
    'dataset_num_proc dataset_processes preprocessing_num_workers dataloader_num_workers dataloader_pin_memory dataloader_prefetch_factor':
      { note: 'a background thread reads and tokenizes rows; leave the key out' },
    dataloader_drop_last: {
      note: 'every row is used once per epoch, including the last partial batch; leave the key out',
    },
    'dataset_prepared_path overwrite_cache': {
      note: 'tokenized rows are not cached between runs; leave the key out',
    },
    remove_unused_columns: { note: 'columns outside the format are ignored; leave the key out' },
    shuffle_dataset: { note: 'rows are always shuffled in each epoch, by `seed`; leave the key out' },
    disable_shuffling: {
      note: 'rows are always shuffled in each epoch, by `seed`; dataset.shuffle_buffer_size: 1 with streaming keeps their order',
    },
  },

  'Batches and length': {
    max_length: { here: ['max_seq_length', 'generate.max_new_tokens'] },
    'sequence_len sequence_length cutoff_len block_size model_max_length seq_len context_length': {
      here: 'max_seq_length',
    },
    'max_source_length max_prompt_length': {
      here: 'max_seq_length',
      note: 'it limits the whole row, prompt and answer',
    },
    'batch_size micro_batch_size train_batch_size': { here: 'per_device_train_batch_size' },
    'per_device_eval_batch_size eval_batch_size': {
      here: 'per_device_train_batch_size',
      note: 'evaluation uses the same batch size',
    },
    auto_find_batch_size: { note: '`lowrank plan --fit 8GiB` finds settings that fit before the run' },
    'grad_accumulation_steps gradient_accumulation accumulation_steps': {
      here: 'gradient_accumulation_steps',
    },
    sample_packing: { here: 'packing' },
    neat_packing: { here: 'packing', note: 'packed rows never attend to each other' },
    'eval_packing eval_sample_packing': { here: 'packing', note: 'it applies to evaluation too' },
    packing_strategy: { here: 'packing', note: 'true or false; rows are never split to fill a batch' },
    padding_free: { here: 'packing', note: 'sequences are never padded' },
    'pad_to_sequence_len pad_to_multiple_of': { note: 'sequences are never padded; leave the key out' },
    group_by_length: {
      note: 'sequences are packed and never padded, so grouping has no effect; leave the key out',
    },
    'truncation_mode excess_length_strategy': {
      note: 'rows longer than max_seq_length are truncated at the end',
    },
    'grad_checkpoint activation_checkpointing': { here: 'gradient_checkpointing' },
    use_gradient_checkpointing: {
      here: 'gradient_checkpointing',
      values: { unsloth: 'true', true: 'true', false: 'false' },
    },
    disable_gradient_checkpointing: {
      here: 'gradient_checkpointing',
      values: { true: 'false', false: 'true' },
    },
    'gradient_checkpointing_kwargs use_reentrant_gc': {
      note: 'gradient_checkpointing is true or false, without settings; leave the key out',
    },
  },

  'Optimizer and rate': {
    lr: { here: 'learning_rate' },
    'optim optimizer_type': { here: 'optimizer', values: FOREIGN_VALUES.optimizer },
    'optim_args optimizer_config': {
      here: 'optimizer',
      note: 'set in the long form {type: adamw, betas: [0.9, 0.999]}',
    },
    'adam_beta1 adam_beta2': {
      here: 'optimizer.betas',
      note: 'set both, as in optimizer: {type: adamw, betas: [0.9, 0.999]}',
    },
    adam_epsilon: { here: 'optimizer.eps', note: 'as in optimizer: {type: adamw, eps: 1e-8}' },
    'lr_scheduler scheduler lr_schedule': {
      here: 'lr_scheduler_type',
      values: FOREIGN_VALUES.lr_scheduler_type,
    },
    lr_scheduler_kwargs: {
      here: 'lr_scheduler_type',
      note: 'set in the long form, as in {type: cosine, min_lr_rate: 0.1}',
    },
    cosine_min_lr_ratio: {
      here: 'lr_scheduler_type.min_lr_rate',
      note: 'as in lr_scheduler_type: {type: cosine, min_lr_rate: 0.1}',
    },
    'warmup num_warmup_steps lr_warmup_steps': { here: 'warmup_steps' },
    wd: { here: 'weight_decay' },
    'max_norm gradient_clipping clip_grad_norm': { here: 'max_grad_norm' },
    'epochs num_epochs': { here: 'num_train_epochs' },
    'iters iterations num_steps max_iters': { here: 'max_steps' },
    lr_groups: {
      note: 'all parameters have the same learning rate; the strategy lora-plus sets another for B',
    },
    optim_target_modules: {
      note: 'GaLore and APOLLO are not supported; `optimizer` supports adamw_8bit and adafactor, which keep less state',
    },
    noisy_embedding_alpha: { here: 'neftune_noise_alpha' },
    average_tokens_across_devices: {
      note: 'the loss is always the mean over all supervised tokens of a step; leave the key out',
    },
    'random_state random_seed': { here: 'seed' },
    data_seed: { here: 'seed', note: 'one seed controls everything' },
    full_determinism: {
      note: 'the same seed always gives the same bits, with any number of threads; leave the key out',
    },
  },

  'Evaluation, checkpoints and output': {
    'eval_strategy evaluation_strategy': {
      here: 'eval_steps',
      note: 'eval_steps: 100 evaluates every 100 steps; by default a run evaluates at the end',
    },
    do_eval: { here: 'eval_dataset', note: 'eval_dataset or eval_fraction enables evaluation' },
    do_train: { note: '`lowrank train` trains, `lowrank eval` evaluates; leave the key out' },
    do_predict: { note: '`lowrank generate` answers prompts; leave the key out' },
    train: { here: 'dataset' },
    test: { here: 'eval_dataset' },
    stage: {
      here: 'task',
      ours: true,
      values: { sft: null, pt: null },
      note: `pt is training on rows of text; ${NO_PREFERENCES}`,
    },
    'steps_per_eval eval_every': { here: 'eval_steps' },
    evals_per_epoch: { here: 'eval_steps', note: 'a number of steps' },
    'val_batches test_batches': {
      note: 'an evaluation uses all held-out rows; reduce eval_fraction for fewer',
    },
    'eval_accumulation_steps prediction_loss_only': {
      note: 'an evaluation stores no logits; leave the key out',
    },
    compute_metrics: {
      note: '`lowrank eval` computes loss, perplexity, exact_match, and mean_token_accuracy',
    },
    compute_accuracy: { note: 'use `lowrank eval --metric mean_token_accuracy`' },
    save_strategy: {
      here: 'save_steps',
      note: 'save_steps: 100 saves every 100 steps; by default a run saves only when interrupted',
    },
    'save_every steps_per_save': { here: 'save_steps' },
    saves_per_epoch: { here: 'save_steps', note: 'a number of steps' },
    save_safetensors: { note: 'adapters are always saved as safetensors; leave the key out' },
    save_only_model: { note: 'checkpoints always contain the state to resume from; leave the key out' },
    'save_total keep_checkpoints': { here: 'save_total_limit' },
    'resume_from_checkpoint auto_resume_from_checkpoints': {
      note: 'use `lowrank train CONFIG --resume`, or the option resume of train()',
    },
    overwrite_output_dir: {
      note: 'overwriting is requested on the command line, with --force; leave the key out',
    },
    'output out_dir save_dir adapter_path': { here: 'output_dir' },
    export_dir: { note: '`lowrank merge --output DIR` and `lowrank export --output FILE` write models' },
    'logging_steps logging_strategy logging_first_step logging_dir steps_per_report': {
      note: 'every step is printed, and logged in metrics.jsonl in output_dir; leave the key out',
    },
    disable_tqdm: { note: 'the progress bar appears only on a terminal; leave the key out' },
    plot_loss: { note: 'metrics.jsonl in output_dir contains the loss of every step' },
    'run_name project_name wandb_project wandb_name use_wandb use_swanlab mlflow_tracking_uri': {
      note: 'the only tracker is TensorBoard, by report_to; metrics.jsonl in output_dir has every step, and `lowrank train --json` prints the same',
    },
    use_tensorboard: { note: 'set report_to: tensorboard' },
    'push_to_hub hub_model_id hub_strategy hub_private_repo': {
      note: 'lowrank does not upload; `hf upload` accepts the folder output_dir',
    },
  },

  Machine: {
    'device_map use_cpu no_cuda gpu_memory_utilization fast_inference': { note: ONE_DEVICE },
    'n_gpu num_gpus': {
      note: `${ONE_DEVICE}; \`mpirun -n N npx lowrank train\` uses N GPUs (docs/cluster.md)`,
    },
    'num_threads n_threads': { here: 'threads' },
    'deepspeed fsdp fsdp_config accelerator_config local_rank world_size ddp_timeout ddp_find_unused_parameters tensor_parallel_size sequence_parallel_degree':
      {
        note: '`mpirun -n N npx lowrank train` trains with N processes, on one machine or several, and `split: layers` gives each a part of the layers (docs/cluster.md); leave the key out',
      },
    plugins: { note: 'plugins are not supported; docs/adding-a-strategy.md describes how to add a strategy' },
  },

  'Preference training': {
    rl: { here: 'task', note: NO_PREFERENCES },
    'rl_beta pref_beta': { here: 'beta' },
    pref_loss: { here: 'loss_type' },
    'ref_model reference_free precompute_ref_log_probs': {
      note: 'the reference of task: dpo and task: kto is the model as the run begins, scored once before the first step; leave the key out',
    },
    'simpo_gamma reward_model': { note: NO_PREFERENCES },
  },

  Generation: {
    max_tokens: { here: ['generate.max_new_tokens', 'max_seq_length'] },
    'max_new_tokens num_predict': { here: 'generate.max_new_tokens' },
    'temperature temp': { here: 'generate.temperature' },
    top_p: { here: 'generate.top_p' },
    top_k: { here: 'generate.top_k' },
    do_sample: {
      here: 'generate.temperature',
      note: 'a temperature above 0 samples; 0 selects the most likely token',
    },
    'stop_sequences stop_strings': { here: 'generate.stop' },
    skip_special_tokens: { here: 'generate.keep_special_tokens', note: 'it has the opposite meaning' },
    'num_beams length_penalty': {
      note: 'beam search is not supported; a temperature of 0 selects the most likely token',
    },
    repetition_penalty: {
      note: 'a repetition penalty is not supported; top_p and temperature vary the text',
    },
    min_p: { here: 'generate.top_p', note: 'min_p is not supported; top_p is the closest option' },
    streamer: { note: 'model.stream() yields text as it is generated' },
  },
}
