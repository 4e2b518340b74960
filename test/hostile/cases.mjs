/**
 * Files that mean harm, each with the command that meets it. `make` fills an empty folder and gives the words of the
 * command line; `says` is in the error that must come of it. Cases with `posix` need what Windows does not have.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const demo = fileURLToPath(new URL('../../demo/base', import.meta.url))
const parity = fileURLToPath(new URL('../parity', import.meta.url))
const json = (path) => JSON.parse(readFileSync(path, 'utf8'))

/** A copy of the demo's model with some of its files changed. */
function model(folder, changes) {
  cpSync(demo, folder, { recursive: true })
  for (const [name, change] of Object.entries(changes)) {
    const path = join(folder, name)
    const text = typeof change === 'string' ? change : JSON.stringify({ ...json(path), ...change })
    writeFileSync(path, text)
  }
  return folder
}

const dataset = (folder) => {
  const path = join(folder, 'data.jsonl')
  const said = (role, content) => ({ role, content })
  writeFileSync(path, JSON.stringify({ messages: [said('user', 'a'.repeat(60)), said('assistant', 'b')] }))
  return path
}

/** One case for a config, by verb. */
const sized = (verb, config, words) => ({
  name: `${verb}: ${Object.entries(config).map(([key, value]) => `${key} ${value}`)}`,
  make: (folder) => [verb, ...words(model(folder, { 'config.json': config }), folder)],
  says: `config.json: ${Object.keys(config)[0]} is ${Object.values(config)[0]}, expected an integer from 1 to`,
})
const layers = { num_hidden_layers: 1e9 }

const u32 = (value) => Buffer.from(Uint32Array.of(value).buffer)
const u64 = (value) => Buffer.from(BigUint64Array.of(BigInt(value)).buffer)
const text = (value) => Buffer.concat([u64(value.length), Buffer.from(value)])
const gguf = (name, says, tensors, keys, ...rest) => ({
  name: `inspect: GGUF with ${name}`,
  make: (folder) => {
    const path = join(folder, 'model.gguf')
    writeFileSync(path, Buffer.concat([Buffer.from('GGUF'), u32(3), u64(tensors), u64(keys), ...rest]))
    return ['inspect', path]
  },
  says,
})
const key = (type, ...rest) => [text('k'), u32(type), ...rest]

const safetensors = (name, says, bytes) => ({
  name: `inspect: safetensors with ${name}`,
  make: (folder) => {
    model(folder, {})
    writeFileSync(join(folder, 'model.safetensors'), bytes)
    return ['inspect', folder]
  },
  says,
})
const headed = (header) => Buffer.concat([u64(header.length), Buffer.from(header)])

/** Files that test/lib/data/dataset/parquet-limits.test.ts writes, too. */
const parquet = (name, says, base64) => ({
  name: `inspect: Parquet with ${name}`,
  make: (folder) => {
    const path = join(folder, 'data.parquet')
    writeFileSync(path, Buffer.from(base64, 'base64'))
    return ['inspect', path]
  },
  says,
})

const adapter = (name, says, change) => ({
  name: `eval: adapter with ${name}`,
  make: (folder) => {
    cpSync(join(parity, 'written/llama3/adapter'), folder, { recursive: true })
    const path = join(folder, 'adapter_config.json')
    writeFileSync(path, JSON.stringify({ ...json(path), ...change }))
    rmSync(join(folder, 'lowrank.json'))
    const base = join(parity, 'models/llama3')
    return ['eval', '--model', base, '--adapter', folder, '--dataset', dataset(folder)]
  },
  says,
})

/** Templates and tokenizers are met where a dataset is looked at. */
const told = (name, says, changes) => ({
  name: `inspect: ${name}`,
  make: (folder) => ['inspect', dataset(folder), '--model', model(folder, changes)],
  says,
})
const template = (name, says, source) =>
  told(`template with ${name}`, says, { 'tokenizer_config.json': { chat_template: source } })
const growing = (start, growth) =>
  `{% set ns = namespace(x=${start}) %}{% for i in range(60) %}{% set ns.x = ${growth} %}{% endfor %}{{ ns.x|length }}`
const tokenizer = (name, says, change) => told(`tokenizer with ${name}`, says, { 'tokenizer.json': change })
const replace = (string, content) => ({ type: 'Replace', pattern: { String: string }, content })

const STOPPED = /(more than \d+ MiB of memory|(longer than|took) .*ms.*) and was stopped/
const GROWN = /or produces too many|and was stopped/
const NESTED = 'it nests, calls itself or grows without end'

export const cases = [
  sized('plan', layers, (folder) => ['--model', join(folder, 'config.json'), '--method', 'lora']),
  ...['head_dim', 'hidden_size', 'intermediate_size', 'vocab_size', 'num_attention_heads'].map((size) =>
    sized('plan', { [size]: 1e9 }, (folder) => ['--model', folder, '--method', 'lora']),
  ),
  sized('inspect', layers, (folder) => [folder]),
  sized('generate', layers, (folder) => ['--model', folder, '--prompt', 'Hello']),
  sized('eval', layers, (folder, at) => ['--model', folder, '--dataset', dataset(at)]),
  sized('export', layers, (folder, at) => [
    '--model',
    folder,
    '--format',
    'gguf',
    '--output',
    join(at, 'out.gguf'),
  ]),
  sized('train', layers, (folder, at) => {
    const config = {
      model: folder,
      dataset: dataset(at),
      strategy: { name: 'lora' },
      output_dir: join(at, 'out'),
    }
    writeFileSync(join(at, 'run.yaml'), JSON.stringify(config))
    return [join(at, 'run.yaml')]
  }),
  gguf('10^9 tensors', 'claims 1000000000 tensors', 1e9, 0),
  gguf('10^9 keys', 'claims 1000000000 keys', 0, 1e9),
  gguf('an array of 10^9 numbers', 'claims 1000000000 elements', 0, 1, ...key(9, u32(5), u64(1e9))),
  gguf('an array of 10^9 flags', 'claims 1000000000 elements', 0, 1, ...key(9, u32(7), u64(1e9))),
  gguf('an array of 10^9 strings', 'claims 1000000000 elements', 0, 1, ...key(9, u32(8), u64(1e9))),
  gguf('a string of 10^9 bytes', 'claims 1000000000 bytes of text', 0, 1, ...key(8, u64(1e9))),
  gguf('10^18 elements', 'overflows', 1, 0, text('t'), u32(2), u64(1e9), u64(1e9), u32(0), u64(0)),
  safetensors('a header of 10^9 bytes', 'claims a header of 1000000000 bytes', u64(1e9)),
  safetensors(
    'a tensor of 10^18 elements',
    'overflows',
    headed('{"t":{"dtype":"F32","shape":[1000000000,1000000000],"data_offsets":[0,4]}}'),
  ),
  parquet(
    '16 million rows in 134 bytes',
    /it takes at least \d+ bytes of memory/,
    'UEFSMRUEFQgVCEwVAhUAAAAAAAAAFQAVAhUCLBWAgIAQFRAVBhUGAAAAFQIZ/AJIBnNjaGVtYRUCABUMJQAYBHRleHQlAAAWgICAEBn8ARn8ASYIHBUMGfUBABn4AQR0ZXh0FQAWgICAEBbaDxZMJiomCAAAFlQWgICAEAAAVAAAAFBBUjE=',
  ),
  parquet(
    'a run of 2^27 integers in a page of 10',
    'a run has more values than its page',
    'UEFSMRUEFQoVMkwVAhUAAAAfiwgAAAAAAAADY2RgYEgEAGOP98EFAAAAFQAVDhU2LBUUFRAVBhUGAAAfiwgAAAAAAAADY2xoaGhgZAAAeuw6gQcAAAAVAhn8AkgGc2NoZW1hFQIAFQwlABgEdGV4dCUAABYUGfwBGfwBJggcFQwZ9QEAGfgBBHRleHQVBBYUFugPFqQBJlQmCAAAFqwBFhQAAE0AAABQQVIx',
  ),
  {
    name: 'inspect: config.json of 10^6 nested arrays',
    make: (folder) => ['inspect', model(folder, { 'config.json': `{"a":${'['.repeat(1e6)}` })],
    says: 'nests objects and arrays more than 128 deep',
  },
  {
    name: 'inspect: config.json that is a pipe',
    posix: true,
    make: (folder) => {
      model(folder, {})
      rmSync(join(folder, 'config.json'))
      execFileSync('mkfifo', [join(folder, 'config.json')])
      return ['inspect', folder]
    },
    says: 'is a named pipe',
  },
  {
    name: 'inspect: tokenizer.json that is a link to another file',
    posix: true,
    make: (folder) => {
      model(folder, {})
      rmSync(join(folder, 'tokenizer.json'))
      symlinkSync('/etc/passwd', join(folder, 'tokenizer.json'))
      return ['inspect', dataset(folder), '--model', folder]
    },
    says: 'is a link out of its folder',
  },
  adapter('r 10^9', 'r is 1000000000, expected an integer from 1 to 65536', { r: 1e9 }),
  adapter('a pattern that backtracks', 'took longer than 500 ms', { target_modules: '(([a-z_.0-9]+)+)+!' }),
  adapter('10^6 module names', 'does not have the tensors', {
    target_modules: ['q_proj', ...Array.from({ length: 1e6 }, (_, i) => `m${i}`)],
  }),
  tokenizer('the id 10^9', 'must be an integer from 0 to', {
    model: { type: 'BPE', vocab: { a: 1e9 }, merges: [] },
  }),
  tokenizer('a regular expression that backtracks', STOPPED, {
    pre_tokenizer: { type: 'Split', pattern: { Regex: '(a+a+)+b' }, behavior: 'Isolated', invert: false },
  }),
  tokenizer('a normalizer that grows', GROWN, {
    normalizer: { type: 'Sequence', normalizers: Array(12).fill(replace('a', 'a'.repeat(30))) },
  }),
  template(
    'a loop of 10^10 rounds',
    STOPPED,
    '{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}',
  ),
  template('a range of 10^9', 'is longer than 1048576', '{% for i in range(1000000000) %}x{% endfor %}'),
  template('a string that doubles', NESTED, growing("'aaaaaaaaaa'", 'ns.x ~ ns.x')),
  template(
    'a string that is replaced longer',
    // Whichever limit it meets first.
    /grows without end|and was stopped/,
    growing("'a'", "ns.x|replace('a', 'aaaaaaaaaaaaaaaaaaaa')"),
  ),
  template(
    'a long string that is split',
    STOPPED,
    growing("'aaaaaaaaaa'", "ns.x + ns.x %}{% set ns.y = ns.x.split('a')"),
  ),
  // On a busy machine its time is up before its memory is.
  template('a list that doubles', /grows without end|and was stopped/, growing('[1]', 'ns.x + ns.x')),
  template(
    'a list in itself',
    /cannot be written as JSON/,
    '{% set ns = namespace() %}{% set ns.a = ns %}{{ ns|tojson }}',
  ),
  template('10^5 brackets', NESTED, `{{ ${'('.repeat(1e5)}1${')'.repeat(1e5)} }}`),
  template(
    '30,000 conditions in one another',
    NESTED,
    `${'{% if true %}'.repeat(3e4)}${'{% endif %}'.repeat(3e4)}`,
  ),
]
