/** A model folder small enough for whole runs: tiny random weights, a tokenizer of single bytes, a chat template. */
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { scratchFolder } from '../lib/scratch.js'

const models = fileURLToPath(new URL('../parity/models', import.meta.url))

/** Ids 0 to 2, as in SmolLM2. */
const SPECIAL = ['<|endoftext|>', '<|im_start|>', '<|im_end|>']

const CHAT_TEMPLATE =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}" +
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

/** GPT-2's printable stand-ins for bytes. */
function byteCharacters(): string[] {
  const printable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++))
}

function tokenizerJson() {
  // Bytes that no UTF-8 text holds make room for the special tokens below 256 ids.
  const used = byteCharacters().filter((_, byte) => byte !== 0xc0 && byte !== 0xc1 && byte < 0xf5)
  const vocab = [...SPECIAL, ...used].map((token, id) => [token, id])
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: SPECIAL.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(vocab),
      merges: [],
    },
  }
}

/** @param name a folder of test/parity/models with at least 246 ids */
export function tinyModel(name = 'smollm2'): string {
  const folder = join(scratchFolder(), name)
  cpSync(join(models, name), folder, { recursive: true })
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizerJson()))
  const config = {
    bos_token: '<|im_start|>',
    eos_token: '<|im_end|>',
    pad_token: '<|im_end|>',
    chat_template: CHAT_TEMPLATE,
  }
  writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify(config))
  return folder
}

/** The same with a chat template that knows tools, and room for them. */
export function tinyToolModel(): string {
  const folder = tinyModel()
  const change = (name: string, changes: object) => {
    const path = join(folder, name)
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), ...changes }))
  }
  change('config.json', { max_position_embeddings: 4096 })
  change('tokenizer_config.json', {
    chat_template: readFileSync(new URL('../../examples/recipes/tools.jinja', import.meta.url), 'utf8'),
  })
  return folder
}

/** Chats of one turn whose answers can be learned, as JSON lines. */
export function chats(count: number, first = 0): string {
  const colors = ['red', 'green', 'blue', 'white', 'black']
  const things = ['sky', 'sea', 'sun', 'leaf', 'snow', 'rose', 'coal']
  const lines = Array.from({ length: count }, (_, index) => {
    const i = first + index
    const thing = things[i % things.length]
    const content = `It is ${colors[i % colors.length]}.`
    return JSON.stringify({
      messages: [
        { role: 'user', content: `Colour of ${thing} ${i}?` },
        { role: 'assistant', content },
      ],
    })
  })
  return `${lines.join('\n')}\n`
}
