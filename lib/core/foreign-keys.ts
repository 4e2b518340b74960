/**
 * Options of TRL, transformers, PEFT, Unsloth, LLaMA-Factory, axolotl, and mlx-lm, with their lowrank equivalents.
 * Messages about unknown keys and the tables in docs/coming-from.md are generated from this data.
 */

/** An option of another program. */
export interface ForeignKey {
  /**
   * The equivalent key, as a path in a config file. If there are several, the first one valid in the context is used.
   * Paths that begin with `generate.` are options of text generation, which config files do not have. A component with `*`
   * is the first key with this end.
   */
  here?: string | readonly string[]
  /** Equivalents of the other program's values; null means the default, so the key can be omitted. */
  values?: Readonly<Record<string, string | null>>
  /** The difference between the two, or why there is no equivalent and what comes closest; without a period. */
  note?: string
}

/** Other programs' names for values of known keys, by the path of the key. */
export const FOREIGN_VALUES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  optimizer: {
    adam: 'adamw',
    adamw_hf: 'adamw',
    adamw_torch: 'adamw',
    adamw_torch_fused: 'adamw',
    adamw_apex_fused: 'adamw',
    adamw_bnb_8bit: 'adamw_8bit',
    adamw_8bit_bnb: 'adamw_8bit',
    adamw_torch_8bit: 'adamw_8bit',
    paged_adamw_32bit: 'paged_adamw',
    lion_32bit: 'lion',
    paged_lion_32bit: 'lion',
    paged_lion_8bit: 'lion_8bit',
  },
  lr_scheduler_type: {
    cosine_decay: 'cosine',
    linear_schedule: 'linear',
    cosine_with_min_lr: '{type: cosine, min_lr_rate: 0.1}',
    cosine_warmup_with_min_lr: '{type: cosine, min_lr_rate: 0.1}',
    wsd: '{type: warmup_stable_decay, num_decay_steps: 100}',
    warmup_stable_decay: '{type: warmup_stable_decay, num_decay_steps: 100}',
  },
  quantization: {
    '4': 'nf4',
    '8': 'int8',
    '4bit': 'nf4',
    '8bit': 'int8',
    'bnb-4bit': 'nf4',
    bnb: 'nf4',
    bitsandbytes: 'nf4',
  },
  precision: {
    bfloat16: 'bf16',
    'torch.bfloat16': 'bf16',
    float32: 'fp32',
    'torch.float32': 'fp32',
  },
  'dataset.format': {
    chatml: 'messages',
    openai: 'messages',
    chat_template: 'messages',
    completion: 'text',
    pretrain: 'text',
  },
  train_on: { assistant: 'completions', assistants: 'completions', completion: 'completions' },
}

const OPTIMIZERS = FOREIGN_VALUES.optimizer as Record<string, string>
const SCHEDULES = FOREIGN_VALUES.lr_scheduler_type as Record<string, string>

const IN_THE_LOG = 'every step is printed, and logged in metrics.jsonl in output_dir; leave the key out'
const NO_TRACKER =
  'the only tracker is TensorBoard, by report_to; metrics.jsonl in output_dir has every step, and `lowrank train --json` prints the same'
const PROCESSES =
  '`mpirun -n N npx lowrank train` trains with N processes, on one machine or several, and `split: layers` gives each a part of the layers (docs/cluster.md); leave the key out'
const OWN_KERNELS = 'the engine has its own kernels for attention and all other operations; leave the key out'
const ONE_DEVICE = 'a process uses one device, which `device` chooses: auto, cpu, cuda or cuda:N'
const GPUS = `${ONE_DEVICE}; \`mpirun -n N npx lowrank train\` uses N GPUs (docs/cluster.md)`
const READ_BESIDE = 'a background thread reads and tokenizes rows; leave the key out'
const NO_HUB_UPLOAD = 'lowrank does not upload; `hf upload` accepts the folder output_dir'
const NO_PREFERENCES =
  'task: dpo and task: orpo train on pairs of answers, task: kto on good and bad ones, task: grpo on rewards; SimPO and reward models are not supported yet'
const PAGES =
  '`lowrank watch OUTPUT_DIR` serves the page of a run, `lowrank train CONFIG --live` also answers prompts there, and `lowrank chat` in the terminal'
const NEW_ANSWERS =
  'task: grpo samples new answers for each step, so ratios are 1 and never clipped; leave the key out'
const REFERENCE =
  'the reference of task: dpo and task: kto is the model as the run begins, scored once before the first step; leave the key out'
const TOKENIZER_AS_IS = "the model's own tokenizer is used, with its vocabulary unchanged"
const TEMPLATE_OF_MODEL =
  "chats are rendered with the chat template in the model's files, or with that of `chat_template: mine.jinja`"
const TEMPLATE_FILE = 'the path of a .jinja file'
const TASK_TYPE = 'task: classification trains a classifier; the other tasks train a causal language model'
const TASK_TYPES = { CAUSAL_LM: 'causal_lm', SEQ_CLS: 'classification' }
const DROPOUTS = ['strategy.lora_dropout', 'strategy.*_dropout']
const NO_LORA_VARIANT =
  'this initialization is not supported; init_lora_weights supports pissa, olora, loftq, and gaussian'

/** The options by topic. */
export const FOREIGN_KEYS = {
  'Model and weights': {
    model_name_or_path: { here: 'model' },
    model_name: { here: 'model' },
    model_id: { here: 'model' },
    base_model: { here: 'model' },
    pretrained_model_name_or_path: { here: 'model' },
    tokenizer_name: { note: TOKENIZER_AS_IS },
    tokenizer_config: { note: TOKENIZER_AS_IS },
    tokenizer_type: { note: TOKENIZER_AS_IS },
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
    quantization_type: { here: 'quantization' },
    quantization_config: { here: 'quantization' },
    bnb_4bit_quant_type: { here: 'quantization', values: { nf4: 'nf4', fp4: 'fp4' } },
    bnb_4bit_use_double_quant: {
      here: 'quantization',
      values: { true: '{type: nf4, double_quant: true}', false: '{type: nf4, double_quant: false}' },
    },
    use_bnb_nested_quant: {
      here: 'quantization',
      values: { true: '{type: nf4, double_quant: true}', false: '{type: nf4, double_quant: false}' },
    },
    double_quantization: {
      here: 'quantization',
      values: { true: '{type: nf4, double_quant: true}', false: '{type: nf4, double_quant: false}' },
    },
    bnb_4bit_compute_dtype: { here: 'precision' },
    compute_dtype: { here: 'precision' },
    torch_dtype: { here: 'precision' },
    dtype: { here: 'precision' },
    bf16: { here: 'precision', values: { true: 'bf16', auto: 'auto', false: 'fp32' } },
    pure_bf16: { here: 'precision', values: { true: 'bf16', false: null } },
    bfloat16: { here: 'precision', values: { true: 'bf16', false: null } },
    fp16: {
      here: 'precision',
      values: { true: 'bf16', false: null },
      note: 'fp16 arithmetic is not supported; bf16 has the same size and needs no loss scaling',
    },
    float16: {
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
    attn_implementation: { note: OWN_KERNELS },
    flash_attn: { note: OWN_KERNELS },
    flash_attention: { note: OWN_KERNELS },
    sdp_attention: { note: OWN_KERNELS },
    xformers_attention: { note: OWN_KERNELS },
    use_unsloth: { note: OWN_KERNELS },
    use_liger_kernel: { note: OWN_KERNELS },
    enable_liger_kernel: { note: OWN_KERNELS },
    torch_compile: { note: OWN_KERNELS },
    use_cache: { note: 'training uses no KV cache, and generation always does; leave the key out' },
    rope_scaling: { note: "the model's config.json states the RoPE scaling" },
    resize_vocab: { note: TOKENIZER_AS_IS },
    resize_token_embeddings_to_32x: { note: TOKENIZER_AS_IS },
    special_tokens: { note: TOKENIZER_AS_IS },
    add_tokens: { note: TOKENIZER_AS_IS },
    pad_token: { note: 'sequences are packed and never padded; leave the key out' },
    eos_token: { note: "the model's tokenizer and chat template define the end token" },
    hf_hub_token: {
      note: 'the hub token is read from HF_TOKEN or from the file that `hf auth login` writes',
    },
    hub_token: { note: 'the hub token is read from HF_TOKEN or from the file that `hf auth login` writes' },
    token: { note: 'the hub token is read from HF_TOKEN or from the file that `hf auth login` writes' },
    use_auth_token: {
      note: 'the hub token is read from HF_TOKEN or from the file that `hf auth login` writes',
    },
    cache_dir: { note: 'the environment variable HF_HUB_CACHE sets the folder of downloads' },
  },

  Adapter: {
    use_peft: { here: 'strategy.name', values: { true: 'lora', false: 'full' } },
    adapter: { here: 'strategy.name' },
    finetuning_type: {
      here: 'strategy.name',
      values: { freeze: 'lora' },
      note: 'use lora with layers_to_transform, or full for all weights',
    },
    fine_tune_type: { here: 'strategy.name' },
    full_finetuning: { here: 'strategy.name', values: { true: 'full', false: 'lora' } },
    peft_type: {
      here: 'strategy.name',
      values: {
        LORA: 'lora',
        ADALORA: 'adalora',
        VERA: 'vera',
        LOHA: 'loha',
        LOKR: 'lokr',
        MISS: 'miss',
        OFT: 'oft',
      },
    },
    peft_config: { here: 'strategy' },
    lora_config: { here: 'strategy' },
    lora_parameters: { here: 'strategy' },
    task_type: { here: 'task', values: TASK_TYPES, note: TASK_TYPE },
    lora_task_type: { here: 'task', values: TASK_TYPES, note: TASK_TYPE },
    num_labels: { here: 'labels', note: 'names of the classes; by default those of the data' },
    id2label: { here: 'labels', note: 'names of the classes in the order of their ids' },
    label2id: { here: 'labels', note: 'names of the classes in the order of their ids' },
    problem_type: {
      note: 'task: classification gives each row one class; several classes and numbers are not supported',
    },
    rank: { here: 'strategy.r' },
    lora_r: { here: 'strategy.r' },
    lora_rank: { here: 'strategy.r' },
    r: { here: 'strategy.r' },
    alpha: { here: ['strategy.alpha', 'strategy.lora_alpha'] },
    lora_alpha: { here: ['strategy.lora_alpha', 'strategy.alpha'] },
    scale: { here: 'strategy.lora_alpha', note: 'for a scale s of mlx-lm use lora_alpha: s · r' },
    dropout: { here: DROPOUTS },
    lora_dropout: { here: DROPOUTS },
    target_modules: { here: 'strategy.target_modules' },
    lora_target: { here: 'strategy.target_modules', values: { all: 'all-linear' } },
    lora_target_modules: { here: 'strategy.target_modules' },
    lora_target_linear: { here: 'strategy.target_modules', values: { true: 'all-linear', false: null } },
    keys: { here: 'strategy.target_modules' },
    exclude_modules: { here: 'strategy.exclude_modules' },
    lora_target_parameters: { note: 'single parameters cannot be targets; `target_modules` selects linears' },
    modules_to_save: { here: 'strategy.modules_to_save' },
    lora_modules_to_save: { here: 'strategy.modules_to_save' },
    additional_target: { here: 'strategy.modules_to_save' },
    layers_to_transform: { here: 'strategy.layers_to_transform' },
    peft_layers_to_transform: { here: 'strategy.layers_to_transform' },
    lora_layers: {
      here: 'strategy.layers_to_transform',
      note: 'a list of layer indices from 0, not a number of layers',
    },
    num_layers: {
      here: 'strategy.layers_to_transform',
      note: 'a list of layer indices from 0, not a number of layers',
    },
    finetune_last_n_layers: {
      here: 'strategy.layers_to_transform',
      note: 'a list of layer indices from 0, not a number of layers',
    },
    layers_pattern: {
      here: 'strategy.target_modules',
      note: 'a regular expression matches whole module paths',
    },
    rank_pattern: { here: 'strategy.rank_pattern' },
    alpha_pattern: { here: 'strategy.alpha_pattern' },
    lora_rank_pattern: { here: 'strategy.rank_pattern' },
    lora_alpha_pattern: { here: 'strategy.alpha_pattern' },
    use_rslora: { here: 'strategy.use_rslora' },
    peft_use_rslora: { here: 'strategy.use_rslora' },
    use_dora: { here: 'strategy.name', values: { true: 'dora', false: null } },
    peft_use_dora: { here: 'strategy.name', values: { true: 'dora', false: null } },
    init_lora_weights: { here: ['strategy.init_lora_weights', 'strategy.init_weights'] },
    peft_init_lora_weights: { here: 'strategy.init_lora_weights' },
    init_weights: { here: ['strategy.init_weights', 'strategy.init_lora_weights'] },
    pissa_init: { here: 'strategy.init_lora_weights', values: { true: 'pissa', false: null } },
    pissa_iter: {
      here: 'strategy.init_lora_weights',
      note: 'pissa_niter_16 contains the number of iterations',
    },
    loftq_config: { here: 'strategy.init_lora_weights', note: 'use the value loftq; it has no settings' },
    eva_config: { note: NO_LORA_VARIANT },
    corda_config: { note: NO_LORA_VARIANT },
    lora_ga_config: { note: NO_LORA_VARIANT },
    loraplus_lr_ratio: { here: 'strategy.loraplus_lr_ratio', note: 'an option of the strategy lora-plus' },
    loraplus_lr_embedding: {
      here: 'strategy.loraplus_lr_embedding',
      note: 'an option of the strategy lora-plus',
    },
    lora_bias: { here: 'strategy.bias' },
    bias: { here: 'strategy.bias' },
    fan_in_fan_out: { note: 'linears are always stored as [out, in]; leave the key out' },
    lora_fan_in_fan_out: {
      note: 'linears are always stored as [out, in]; leave the key out',
    },
    max_lora_rank: { here: 'strategy.r' },
    adapter_name_or_path: {
      note: 'a config trains a new adapter; `--resume` continues a run, and loadAdapter(path, { trainable: true }) continues an adapter',
    },
    lora_model_dir: {
      note: 'a config trains a new adapter; `--resume` continues a run, and loadAdapter(path, { trainable: true }) continues an adapter',
    },
    resume_adapter_file: { note: '`lowrank train CONFIG --resume` continues from the newest checkpoint' },
    use_galore: {
      note: 'GaLore is not supported; paged_adamw_8bit with optimizer_in_backward reduces the memory of full fine-tuning',
    },
    use_badam: {
      note: 'BAdam is not supported; paged_adamw_8bit with optimizer_in_backward reduces the memory of full fine-tuning',
    },
    freeze_trainable_layers: { here: 'strategy.layers_to_transform' },
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
    datasets: { here: 'dataset' },
    data: { here: 'dataset' },
    data_path: { here: 'dataset' },
    dataset_path: { here: 'dataset' },
    dataset_name: { here: 'dataset', note: 'it takes files; download a dataset of the hub first' },
    dataset_dir: { here: 'dataset', note: 'a path, a list of paths, or a pattern such as data/*.jsonl' },
    data_files: { here: 'dataset', note: 'a path, a list of paths, or a pattern such as data/*.jsonl' },
    train_file: { here: 'dataset' },
    train_dataset: { here: 'dataset' },
    validation_file: { here: 'eval_dataset' },
    test_datasets: { here: 'eval_dataset' },
    valid_file: { here: 'eval_dataset' },
    dataset_train_split: { here: 'dataset', note: 'files have no splits; give the file of the split' },
    dataset_test_split: { here: 'eval_dataset', note: 'files have no splits; give the file of the split' },
    dataset_text_field: { here: 'dataset.columns.text' },
    text_column: { here: 'dataset.columns.text' },
    text_field: { here: 'dataset.columns.text' },
    prompt_field: { here: 'dataset.columns.prompt' },
    completion_field: { here: 'dataset.columns.completion' },
    prompt_feature: { here: 'dataset.columns.prompt' },
    completion_feature: { here: 'dataset.columns.completion' },
    text_feature: { here: 'dataset.columns.text' },
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
    val_size: { here: 'eval_fraction', note: 'a fraction in [0, 1)' },
    val_set_size: { here: 'eval_fraction', note: 'a fraction in [0, 1)' },
    test_size: { here: 'eval_fraction', note: 'a fraction in [0, 1)' },
    max_samples: {
      note: 'the number of rows has no limit; `max_steps` ends a run early, and `head -n` makes a smaller file',
    },
    max_train_samples: {
      note: 'the number of rows has no limit; `max_steps` ends a run early, and `head -n` makes a smaller file',
    },
    buffer_size: { here: 'dataset.shuffle_buffer_size' },
    streaming: { here: 'dataset.streaming' },
    template: { note: TEMPLATE_OF_MODEL },
    conversation_template: { note: TEMPLATE_OF_MODEL },
    chat_template_path: { here: 'chat_template', note: TEMPLATE_FILE },
    chat_template_jinja: { here: 'chat_template', note: TEMPLATE_FILE },
    default_system: { note: 'the system prompt is part of each row; `columns.system` sets its column' },
    default_system_message: {
      note: 'the system prompt is part of each row; `columns.system` sets its column',
    },
    system_prompt: { note: 'the system prompt is part of each row; `columns.system` sets its column' },
    train_on_inputs: { here: 'train_on', values: { true: 'all', false: 'completions' } },
    train_on_prompt: { here: 'train_on', values: { true: 'all', false: 'completions' } },
    completion_only_loss: { here: 'train_on', values: { true: 'completions', false: 'all' } },
    assistant_only_loss: { here: 'train_on', values: { true: 'completions', false: 'all' } },
    mask_prompt: { here: 'train_on', values: { true: 'completions', false: 'all' } },
    mask_history: { here: 'train_on', values: { true: 'last', false: 'completions' } },
    train_on_responses_only: { here: 'train_on', values: { true: 'completions', false: 'all' } },
    roles_to_train: { here: 'train_on', note: "completions trains on the assistant's turns" },
    train_on_eos: { note: 'the end token of an answer is always trained on; leave the key out' },
    dataset_num_proc: { note: READ_BESIDE },
    dataset_processes: { note: READ_BESIDE },
    preprocessing_num_workers: { note: READ_BESIDE },
    dataloader_num_workers: { note: READ_BESIDE },
    dataloader_pin_memory: { note: READ_BESIDE },
    dataloader_prefetch_factor: { note: READ_BESIDE },
    dataloader_drop_last: {
      note: 'every row is used once per epoch, including the last partial batch; leave the key out',
    },
    dataset_prepared_path: { note: 'tokenized rows are not cached between runs; leave the key out' },
    overwrite_cache: { note: 'tokenized rows are not cached between runs; leave the key out' },
    remove_unused_columns: {
      note: 'columns outside the format are ignored; leave the key out',
    },
    shuffle_dataset: { note: 'rows are always shuffled in each epoch, by `seed`; leave the key out' },
    disable_shuffling: {
      note: 'rows are always shuffled in each epoch, by `seed`; dataset.shuffle_buffer_size: 1 with streaming keeps their order',
    },
  },

  'Batches and length': {
    max_length: { here: ['max_seq_length', 'generate.max_new_tokens'] },
    sequence_len: { here: 'max_seq_length' },
    sequence_length: { here: 'max_seq_length' },
    cutoff_len: { here: 'max_seq_length' },
    block_size: { here: 'max_seq_length' },
    model_max_length: { here: 'max_seq_length' },
    max_source_length: { here: 'max_seq_length', note: 'it limits the whole row, prompt and answer' },
    max_prompt_length: { here: 'max_seq_length', note: 'it limits the whole row, prompt and answer' },
    seq_len: { here: 'max_seq_length' },
    context_length: { here: 'max_seq_length' },
    batch_size: { here: 'per_device_train_batch_size' },
    micro_batch_size: { here: 'per_device_train_batch_size' },
    train_batch_size: { here: 'per_device_train_batch_size' },
    per_device_eval_batch_size: {
      here: 'per_device_train_batch_size',
      note: 'evaluation uses the same batch size',
    },
    eval_batch_size: { here: 'per_device_train_batch_size', note: 'evaluation uses the same batch size' },
    auto_find_batch_size: { note: '`lowrank plan --fit 8GiB` finds settings that fit before the run' },
    grad_accumulation_steps: { here: 'gradient_accumulation_steps' },
    gradient_accumulation: { here: 'gradient_accumulation_steps' },
    accumulation_steps: { here: 'gradient_accumulation_steps' },
    sample_packing: { here: 'packing' },
    neat_packing: { here: 'packing', note: 'packed rows never attend to each other' },
    eval_packing: { here: 'packing', note: 'it applies to evaluation too' },
    eval_sample_packing: { here: 'packing', note: 'it applies to evaluation too' },
    packing_strategy: { here: 'packing', note: 'true or false; rows are never split to fill a batch' },
    padding_free: { here: 'packing', note: 'sequences are never padded' },
    pad_to_sequence_len: { note: 'sequences are never padded; leave the key out' },
    pad_to_multiple_of: { note: 'sequences are never padded; leave the key out' },
    group_by_length: {
      note: 'sequences are packed and never padded, so grouping has no effect; leave the key out',
    },
    truncation_mode: { note: 'rows longer than max_seq_length are truncated at the end' },
    excess_length_strategy: { note: 'rows longer than max_seq_length are truncated at the end' },
    grad_checkpoint: { here: 'gradient_checkpointing' },
    use_gradient_checkpointing: {
      here: 'gradient_checkpointing',
      values: { unsloth: 'true', true: 'true', false: 'false' },
    },
    disable_gradient_checkpointing: {
      here: 'gradient_checkpointing',
      values: { true: 'false', false: 'true' },
    },
    activation_checkpointing: { here: 'gradient_checkpointing' },
    gradient_checkpointing_kwargs: {
      note: 'gradient_checkpointing is true or false, without settings; leave the key out',
    },
    use_reentrant_gc: {
      note: 'gradient_checkpointing is true or false, without settings; leave the key out',
    },
  },

  'Optimizer and rate': {
    lr: { here: 'learning_rate' },
    optim: { here: 'optimizer', values: OPTIMIZERS },
    optimizer_type: { here: 'optimizer', values: OPTIMIZERS },
    optim_args: {
      here: 'optimizer',
      note: 'set in the long form {type: adamw, betas: [0.9, 0.999]}',
    },
    optimizer_config: {
      here: 'optimizer',
      note: 'set in the long form {type: adamw, betas: [0.9, 0.999]}',
    },
    adam_beta1: {
      here: 'optimizer.betas',
      note: 'set both, as in optimizer: {type: adamw, betas: [0.9, 0.999]}',
    },
    adam_beta2: {
      here: 'optimizer.betas',
      note: 'set both, as in optimizer: {type: adamw, betas: [0.9, 0.999]}',
    },
    adam_epsilon: { here: 'optimizer.eps', note: 'as in optimizer: {type: adamw, eps: 1e-8}' },
    lr_scheduler: { here: 'lr_scheduler_type', values: SCHEDULES },
    scheduler: { here: 'lr_scheduler_type', values: SCHEDULES },
    lr_schedule: { here: 'lr_scheduler_type', values: SCHEDULES },
    lr_scheduler_kwargs: {
      here: 'lr_scheduler_type',
      note: 'set in the long form, as in {type: cosine, min_lr_rate: 0.1}',
    },
    cosine_min_lr_ratio: {
      here: 'lr_scheduler_type.min_lr_rate',
      note: 'as in lr_scheduler_type: {type: cosine, min_lr_rate: 0.1}',
    },
    warmup: { here: 'warmup_steps' },
    num_warmup_steps: { here: 'warmup_steps' },
    lr_warmup_steps: { here: 'warmup_steps' },
    wd: { here: 'weight_decay' },
    max_norm: { here: 'max_grad_norm' },
    gradient_clipping: { here: 'max_grad_norm' },
    clip_grad_norm: { here: 'max_grad_norm' },
    epochs: { here: 'num_train_epochs' },
    num_epochs: { here: 'num_train_epochs' },
    iters: { here: 'max_steps' },
    iterations: { here: 'max_steps' },
    num_steps: { here: 'max_steps' },
    max_iters: { here: 'max_steps' },
    embedding_lr: { here: 'strategy.loraplus_lr_embedding', note: 'an option of the strategy lora-plus' },
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
    random_state: { here: 'seed' },
    random_seed: { here: 'seed' },
    data_seed: { here: 'seed', note: 'one seed controls everything' },
    full_determinism: {
      note: 'the same seed always gives the same bits, with any number of threads; leave the key out',
    },
  },

  'Evaluation, checkpoints and output': {
    eval_strategy: {
      here: 'eval_steps',
      note: 'eval_steps: 100 evaluates every 100 steps; by default a run evaluates at the end',
    },
    evaluation_strategy: {
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
      values: { sft: null, pt: null, dpo: 'dpo', kto: 'kto' },
      note: `pt is training on rows of text; ${NO_PREFERENCES}`,
    },
    steps_per_eval: { here: 'eval_steps' },
    eval_every: { here: 'eval_steps' },
    evals_per_epoch: { here: 'eval_steps', note: 'a number of steps' },
    val_batches: { note: 'an evaluation uses all held-out rows; reduce eval_fraction for fewer' },
    test_batches: { note: 'an evaluation uses all held-out rows; reduce eval_fraction for fewer' },
    eval_accumulation_steps: { note: 'an evaluation stores no logits; leave the key out' },
    prediction_loss_only: { note: 'an evaluation stores no logits; leave the key out' },
    compute_metrics: { note: '`lowrank eval` computes loss, perplexity, exact_match, and accuracy' },
    compute_accuracy: { note: 'use `lowrank eval --metric accuracy`' },
    save_strategy: {
      here: 'save_steps',
      note: 'save_steps: 100 saves every 100 steps; by default a run saves only when interrupted',
    },
    save_every: { here: 'save_steps' },
    steps_per_save: { here: 'save_steps' },
    saves_per_epoch: { here: 'save_steps', note: 'a number of steps' },
    save_safetensors: { note: 'adapters are always saved as safetensors; leave the key out' },
    save_only_model: { note: 'checkpoints always contain the state to resume from; leave the key out' },
    save_total: { here: 'save_total_limit' },
    keep_checkpoints: { here: 'save_total_limit' },
    resume_from_checkpoint: {
      note: 'use `lowrank train CONFIG --resume`, or the option resume of train()',
    },
    auto_resume_from_checkpoints: {
      note: 'use `lowrank train CONFIG --resume`, or the option resume of train()',
    },
    overwrite_output_dir: {
      note: 'overwriting is requested on the command line, with --force; leave the key out',
    },
    output: { here: 'output_dir' },
    out_dir: { here: 'output_dir' },
    save_dir: { here: 'output_dir' },
    adapter_path: { here: 'output_dir' },
    export_dir: { note: '`lowrank merge --output DIR` and `lowrank export --output FILE` write models' },
    logging_steps: { note: IN_THE_LOG },
    logging_strategy: { note: IN_THE_LOG },
    logging_first_step: { note: IN_THE_LOG },
    logging_dir: { note: IN_THE_LOG },
    steps_per_report: { note: IN_THE_LOG },
    disable_tqdm: { note: 'the progress bar appears only on a terminal; leave the key out' },
    plot_loss: { note: 'metrics.jsonl in output_dir contains the loss of every step' },
    run_name: { note: NO_TRACKER },
    project_name: { note: NO_TRACKER },
    wandb_project: { note: NO_TRACKER },
    wandb_name: { note: NO_TRACKER },
    use_wandb: { note: NO_TRACKER },
    use_swanlab: { note: NO_TRACKER },
    use_tensorboard: { note: 'set report_to: tensorboard' },
    mlflow_tracking_uri: { note: NO_TRACKER },
    push_to_hub: { note: NO_HUB_UPLOAD },
    hub_model_id: { note: NO_HUB_UPLOAD },
    hub_strategy: { note: NO_HUB_UPLOAD },
    hub_private_repo: { note: NO_HUB_UPLOAD },
  },

  Machine: {
    device_map: { note: ONE_DEVICE },
    use_cpu: { note: ONE_DEVICE },
    no_cuda: { note: ONE_DEVICE },
    n_gpu: { note: GPUS },
    gpu_memory_utilization: { note: ONE_DEVICE },
    fast_inference: { note: ONE_DEVICE },
    num_threads: { here: 'threads' },
    n_threads: { here: 'threads' },
    num_gpus: { note: GPUS },
    deepspeed: { note: PROCESSES },
    fsdp: { note: PROCESSES },
    fsdp_config: { note: PROCESSES },
    accelerator_config: { note: PROCESSES },
    local_rank: { note: PROCESSES },
    world_size: { note: PROCESSES },
    ddp_timeout: { note: PROCESSES },
    ddp_find_unused_parameters: { note: PROCESSES },
    tensor_parallel_size: { note: PROCESSES },
    sequence_parallel_degree: { note: PROCESSES },
    plugins: { note: 'plugins are not supported; docs/adding-a-strategy.md describes how to add a strategy' },
  },

  'Preference training': {
    rl: { here: 'task', note: NO_PREFERENCES },
    rl_beta: { here: 'beta' },
    pref_beta: { here: 'beta' },
    pref_loss: { here: 'loss_type' },
    dpo_beta: { here: 'beta' },
    dpo_loss_type: { here: 'loss_type' },
    ref_model: { note: REFERENCE },
    reference_free: { note: REFERENCE },
    precompute_ref_log_probs: { note: REFERENCE },
    orpo_alpha: { here: 'beta' },
    simpo_gamma: { note: NO_PREFERENCES },
    reward_model: { note: NO_PREFERENCES },
    reward_funcs: { here: 'reward_functions' },
    reward_weights: { note: 'rewards add up; multiply by the weight in the function' },
    num_iterations: { note: NEW_ANSWERS },
    steps_per_generation: { note: NEW_ANSWERS },
    epsilon_high: { note: NEW_ANSWERS },
    kto_chosen_weight: { here: 'desirable_weight' },
    kto_desirable_weight: { here: 'desirable_weight' },
    kto_rejected_weight: { here: 'undesirable_weight' },
    kto_undesirable_weight: { here: 'undesirable_weight' },
  },

  Generation: {
    max_tokens: { here: ['generate.max_new_tokens', 'max_seq_length'] },
    max_new_tokens: { here: 'generate.max_new_tokens' },
    num_predict: { here: 'generate.max_new_tokens' },
    temperature: { here: 'generate.temperature' },
    temp: { here: 'generate.temperature' },
    top_p: { here: 'generate.top_p' },
    top_k: { here: 'generate.top_k' },
    do_sample: {
      here: 'generate.temperature',
      note: 'a temperature above 0 samples; 0 selects the most likely token',
    },
    stop_sequences: { here: 'generate.stop' },
    stop_strings: { here: 'generate.stop' },
    skip_special_tokens: { here: 'generate.keep_special_tokens', note: 'it has the opposite meaning' },
    num_beams: { note: 'beam search is not supported; a temperature of 0 selects the most likely token' },
    repetition_penalty: {
      note: 'a repetition penalty is not supported; top_p and temperature vary the text',
    },
    length_penalty: {
      note: 'beam search is not supported; a temperature of 0 selects the most likely token',
    },
    min_p: { here: 'generate.top_p', note: 'min_p is not supported; top_p is the closest option' },
    streamer: { note: 'model.stream() yields text as it is generated' },
  },
} as const satisfies Readonly<Record<string, Readonly<Record<string, ForeignKey>>>>

/** Commands of other programs: the equivalent command, or a sentence about the alternative. */
export const FOREIGN_VERBS: Readonly<Record<string, { here?: string; note?: string }>> = {
  sft: { here: 'train' },
  finetune: { here: 'train' },
  'fine-tune': { here: 'train' },
  tune: { here: 'train' },
  fit: { here: 'train' },
  lora: { here: 'train' },
  qlora: { here: 'train' },
  pretrain: { here: 'train' },
  evaluate: { here: 'eval' },
  test: { here: 'eval' },
  benchmark: { here: 'bench' },
  predict: { here: 'generate' },
  inference: { here: 'generate' },
  infer: { here: 'generate' },
  complete: { here: 'generate' },
  run: { here: 'generate' },
  fuse: { here: 'merge' },
  'merge-lora': { here: 'merge' },
  convert: { here: 'export' },
  quantize: { here: 'export' },
  env: { here: 'doctor' },
  preprocess: { here: 'inspect', note: 'it shows the tokens of a dataset that are trained on' },
  dpo: { note: NO_PREFERENCES },
  kto: { note: NO_PREFERENCES },
  orpo: { note: NO_PREFERENCES },
  grpo: { note: NO_PREFERENCES },
  rloo: { note: NO_PREFERENCES },
  ppo: { note: NO_PREFERENCES },
  reward: { note: NO_PREFERENCES },
  serve: {
    note: 'lowrank has no server; `lowrank export` writes a model for Ollama or llama.cpp, which have one',
  },
  server: {
    note: 'lowrank has no server; `lowrank export` writes a model for Ollama or llama.cpp, which have one',
  },
  api: {
    note: 'lowrank has no server; `lowrank export` writes a model for Ollama or llama.cpp, which have one',
  },
  webui: { note: PAGES },
  webchat: { note: PAGES },
  launch: {
    note: '`lowrank train CONFIG` starts a run of one process, and `mpirun -n N npx lowrank train CONFIG` one of N',
  },
}

const entries = new Map<string, ForeignKey>(
  Object.values(FOREIGN_KEYS).flatMap((group) => Object.entries<ForeignKey>(group)),
)
const plain = (key: string): string => key.toLowerCase().replace(/[-_]/g, '')
const byPlainName = new Map([...entries].map(([key, entry]) => [plain(key), entry]))

/** Looks up another program's key in any spelling: `loraRank`, `lora_rank`, and `--lora-rank` are the same. */
export function foreignKey(key: string): ForeignKey | undefined {
  return byPlainName.get(plain(key))
}
