/** Requests drawn from valid ones of every route, most of them with one to three faults. */

export interface Drawn {
  /** `POST /v1/files`, with names in place of ids. */
  route: string
  method: string
  path: string
  headers: Record<string, string>
  body: Buffer
}

/** Names of things that are there. */
export type Ids = Record<'file' | 'job' | 'response' | 'upload' | 'part' | 'tuned', string>

type Random = () => number
type Json = unknown

const BOUNDARY = 'B'
const messages = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: [{ type: 'text', text: 'Say the number 7' }] },
]
const schema = { type: 'object', properties: { a: { type: 'integer', minimum: 1 }, b: { enum: ['x', 'y'] } } }
const grader = {
  ...{ type: 'string_check', name: 'letter', operation: 'like' },
  ...{ input: '{{sample.output_text}}', reference: '{{item.letter}}' },
}
const multi = {
  type: 'multi',
  graders: { a: grader, b: { ...grader, type: 'text_similarity', evaluation_metric: 'fuzzy_match' } },
  calculate_output: 'max(a, 0.5 * b) ^ 2',
}

/** Valid requests; a body that is a string is sent as it is, in a form. */
function valid({
  file,
  job,
  response,
  upload,
  part,
  tuned,
}: Ids): [route: string, path: string, body?: Json][] {
  const small = { strategy: { name: 'lora', r: 4 }, max_seq_length: 64 }
  const chat = { model: 'base', messages, max_tokens: 3 }
  const form = (parts: [head: string, text: string][]) =>
    `${parts.map(([head, text]) => `--${BOUNDARY}\r\nContent-Disposition: form-data; ${head}\r\n\r\n${text}\r\n`).join('')}--${BOUNDARY}--\r\n`
  const jobs = '/v1/fine_tuning/jobs'
  const rows = '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'
  return [
    ['POST /v1/chat/completions', '/v1/chat/completions', chat],
    [
      'POST /v1/chat/completions',
      '/v1/chat/completions',
      {
        ...{ ...chat, temperature: 0.7, top_p: 0.9, seed: 1, stop: ['7'], n: 2, stream: true },
        ...{ stream_options: { include_usage: true }, logprobs: true, top_logprobs: 2 },
        ...{ frequency_penalty: 0.5, presence_penalty: -0.5, logit_bias: { 40: 5 }, user: 'a' },
      },
    ],
    [
      'POST /v1/chat/completions',
      '/v1/chat/completions',
      {
        ...{ ...chat, model: tuned, max_completion_tokens: 12 },
        response_format: { type: 'json_schema', json_schema: { name: 'a', strict: true, schema } },
      },
    ],
    [
      'POST /v1/chat/completions',
      '/v1/chat/completions',
      {
        ...{ ...chat, model: 'calling', max_tokens: 12, tool_choice: 'required', parallel_tool_calls: false },
        tools: [{ type: 'function', function: { name: 'a', parameters: schema, strict: true } }],
      },
    ],
    [
      'POST /v1/responses',
      '/v1/responses',
      {
        ...{ model: 'base', input: [{ role: 'user', content: [{ type: 'input_text', text: 'Hello' }] }] },
        ...{ instructions: 'Be brief.', max_output_tokens: 16, previous_response_id: response, stream: true },
        text: { format: { type: 'json_schema', name: 'a', schema } },
      },
    ],
    ['POST /v1/responses', '/v1/responses', { model: 'base', input: 'Hello', max_output_tokens: 16 }],
    [
      'POST /v1/completions',
      '/v1/completions',
      { model: 'base', prompt: ['Once', 'The'], max_tokens: 3, n: 2, echo: true, stop: null, stream: false },
    ],
    ['POST /v1/completions', '/v1/completions', { model: 'base', prompt: [[1, 2], [3]], max_tokens: 3 }],
    [
      'POST /v1/files',
      '/v1/files',
      form([
        ['name="purpose"', 'fine-tune'],
        ['name="file"; filename="a.jsonl"', rows],
      ]),
    ],
    ['GET /v1/files', '/v1/files?limit=3&order=asc&purpose=fine-tune'],
    ['GET /v1/files/{id}', `/v1/files/${file}`],
    ['GET /v1/files/{id}/content', `/v1/files/${file}/content`],
    ['DELETE /v1/files/{id}', `/v1/files/${file}`],
    [
      'POST /v1/uploads',
      '/v1/uploads',
      { bytes: rows.length, filename: 'a.jsonl', mime_type: 'text/jsonl', purpose: 'fine-tune' },
    ],
    [
      'POST /v1/uploads/{id}/parts',
      `/v1/uploads/${upload}/parts`,
      form([['name="data"; filename="part"', rows]]),
    ],
    [
      'POST /v1/uploads/{id}/complete',
      `/v1/uploads/${upload}/complete`,
      { part_ids: [part], md5: '0'.repeat(32) },
    ],
    ['POST /v1/uploads/{id}/cancel', `/v1/uploads/${upload}/cancel`],
    [
      `POST ${jobs}`,
      jobs,
      {
        ...{
          model: 'base',
          training_file: file,
          validation_file: file,
          suffix: 'a',
          seed: 1,
          lowrank: small,
        },
        ...{ metadata: { a: 'b' }, integrations: null },
        method: {
          type: 'supervised',
          supervised: { hyperparameters: { n_epochs: 1, batch_size: 'auto', learning_rate_multiplier: 2 } },
        },
      },
    ],
    [
      `POST ${jobs}`,
      jobs,
      {
        ...{ model: 'base', training_file: file, lowrank: { ...small, max_completion_length: 4 } },
        method: { type: 'reinforcement', reinforcement: { grader: multi, hyperparameters: { n_epochs: 1 } } },
      },
    ],
    [`GET ${jobs}`, `${jobs}?limit=2&after=${job}`],
    [`GET ${jobs}/{id}`, `${jobs}/${job}`],
    [`GET ${jobs}/{id}/events`, `${jobs}/${job}/events?limit=2`],
    [`GET ${jobs}/{id}/events`, `${jobs}/${job}/events?stream=true`],
    [`GET ${jobs}/{id}/checkpoints`, `${jobs}/${job}/checkpoints?limit=2`],
    [`POST ${jobs}/{id}/pause`, `${jobs}/${job}/pause`],
    [`POST ${jobs}/{id}/resume`, `${jobs}/${job}/resume`],
    [`POST ${jobs}/{id}/cancel`, `${jobs}/${job}/cancel`],
    [
      'POST /v1/fine_tuning/alpha/graders/run',
      '/v1/fine_tuning/alpha/graders/run',
      { grader: multi, model_sample: 'e', item: { letter: 'e' } },
    ],
    ['POST /v1/fine_tuning/alpha/graders/validate', '/v1/fine_tuning/alpha/graders/validate', { grader }],
    ['GET /v1/responses/{id}', `/v1/responses/${response}`],
    ['DELETE /v1/responses/{id}', `/v1/responses/${response}`],
    ['GET /v1/models', '/v1/models'],
    ['GET /v1/models/{id}', `/v1/models/${encodeURIComponent(tuned)}`],
    ['DELETE /v1/models/{id}', '/v1/models/base'],
    ['GET /metrics', '/metrics'],
    ['GET /ready', '/ready'],
    ['GET /', '/'],
  ]
}

const TEXTS = [
  ...['', ' ', 'a', 'null', '__proto__', '../../token', '/etc/passwd', 'ft:a:b::c', 'base\u0000', '\ud800'],
  ...[
    '\u202e\u{1f600}é\u0301',
    '<|im_end|>',
    '{{ 7 * 7 }}',
    '%00',
    'http://127.0.0.1/',
    'ключ',
    'a'.repeat(5000),
  ],
  ...['^(a+)+$', '(?=a)', '[', '9'.repeat(400), '((((((((((1))))))))))', '1/0', 'NaN', '-1', '1e999'],
]
const NUMBERS = [0, -0, -1, 0.5, 1e-320, 3, 1e6, 2 ** 31, 2 ** 53, 1e21, 1e308, -1e308]
const KEYS = ['__proto__', 'constructor', 'toString', 'model', 'stream', 'n', 'type', 'lowrank', 'a', '']

function hostileValue(random: Random): Json {
  const pick = pickOf(random)
  const nested = (depth: number, key: string | undefined): Json => {
    let value: Json = 1
    for (let i = 0; i < depth; i++) value = key === undefined ? [value] : { [key]: value }
    return value
  }
  return pick<() => Json>([
    () => pick(TEXTS),
    () => pick(TEXTS),
    () => pick(NUMBERS),
    () => pick(NUMBERS),
    () => pick([null, true, false, [], {}]),
    () => nested(pick([3, 30, 62, 80, 3000]), pick([undefined, 'a', 'anyOf', 'properties', 'items'])),
    () => Array.from({ length: pick([17, 300, 2000]) }, () => pick([0, 'a', null, {}])),
    () => ({ [pick(KEYS)]: pick(TEXTS) }),
    () => pick([schema, messages, grader, { $ref: '#' }, { type: 'string', pattern: '(a|b)*c{4000}' }]),
  ])()
}

const pickOf =
  (random: Random) =>
  <T>(list: readonly T[]): T =>
    list[Math.floor(random() * list.length)] as T

/** A copy with one value, anywhere in it, that is changed, is gone, or has another beside it. */
function changed(value: Json, random: Random): Json {
  const pick = pickOf(random)
  const isList = Array.isArray(value)
  const isOpen = typeof value === 'object' && value !== null && (random() < 0.85 || value === undefined)
  if (!isOpen) return hostileValue(random)
  const entries = Object.entries(value)
  const at = Math.floor(random() * entries.length)
  const [key, inner] = entries[at] ?? ['a', null]
  const changedEntries = pick<() => [string, Json][]>([
    () => entries.toSpliced(at, 1),
    () => [...entries, [pick(KEYS), hostileValue(random)]],
    ...Array(5).fill(() =>
      entries.with(Math.min(at, Math.max(entries.length - 1, 0)), [key, changed(inner, random)]),
    ),
  ])
  if (entries.length === 0) return hostileValue(random)
  const made = changedEntries()
  if (isList) return made.map(([, each]) => each)
  // Not assigned one by one, which would set the prototype.
  return Object.fromEntries(made)
}

/** A text with bytes that are changed, gone, or there twice. */
function garbled(bytes: Buffer, random: Random): Buffer {
  const pick = pickOf(random)
  const at = Math.floor(random() * (bytes.length + 1))
  return pick<() => Buffer>([
    () => bytes.subarray(0, at),
    () => bytes.subarray(at),
    () => Buffer.concat([bytes, bytes]),
    () => Buffer.concat([Buffer.from('\ufeff'), bytes]),
    () =>
      Buffer.concat([
        bytes.subarray(0, at),
        Buffer.from([pick([0, 0x22, 0x7b, 0x80, 0xff])]),
        bytes.subarray(at),
      ]),
    () => Buffer.alloc(pick([0, 1, 70_000]), pick(['[', '{"a":', '\u0000', ' '])),
  ])()
}

function otherPath(path: string, random: Random): string {
  const pick = pickOf(random)
  const [bare = '', query] = path.split('?')
  const parts = bare.split('/')
  const at = 1 + Math.floor(random() * (parts.length - 1))
  const strange = pick([
    ...TEXTS.map((text) => encodeURIComponent(Buffer.from(text).toString())),
    '..',
    '%2e%2e',
    '%',
    '%ff',
    '%2F',
    '',
  ])
  const queries = ['limit', 'after', 'order', 'purpose', 'stream', 'metadata[a]', 'include', '__proto__']
  return pick([
    () => `${parts.with(at, strange).join('/')}${query ? `?${query}` : ''}`,
    () => `${parts.toSpliced(at, 0, strange).join('/')}`,
    () =>
      `${bare}?${pick(queries)}=${strange}&${pick(queries)}=${pick(['0', '1', '-1', '1e9', 'asc', 'true'])}`,
    () => `${bare}/`,
    () => `/${bare}`,
    () => `${bare}?${'a=b&'.repeat(1000)}`,
  ])()
}

function otherHeaders(headers: Record<string, string>, random: Random): Record<string, string> {
  const pick = pickOf(random)
  const types = [
    'text/plain',
    'application/json; charset=utf-16',
    'multipart/form-data',
    'a',
    'application/jsonp',
    '',
  ]
  return {
    ...headers,
    ...pick<Record<string, string>>([
      { 'content-type': pick(types) },
      { 'content-type': `multipart/form-data; boundary=${'b'.repeat(pick([1, 200]))}` },
      { 'content-encoding': pick(['gzip', 'br', 'identity']) },
      { authorization: pick(['Bearer', 'Bearer sk-guess', 'Basic YTpi', '']) },
      { host: pick(['evil.example', 'localhost', '[::1]', '127.0.0.1:99999']) },
      { origin: pick(['null', 'https://evil.example', 'http://127.0.0.1']) },
      { accept: 'text/html', 'accept-encoding': 'gzip', range: 'bytes=0-1' },
      { 'x-http-method-override': 'DELETE', 'x-forwarded-host': 'evil.example' },
      { cookie: 'a=b', 'sec-fetch-site': pick(['cross-site', 'same-origin']) },
      { 'openai-organization': 'é'.repeat(100), 'idempotency-key': 'a' },
    ]),
  }
}

/** The next request of a sequence. */
export function drawnRequest(random: Random, ids: Ids): Drawn {
  const pick = pickOf(random)
  const [route, path, body] = pick(valid(ids))
  const isForm = typeof body === 'string'
  const drawn: Drawn = {
    ...{ route, path, method: route.split(' ')[0] as string },
    headers: { 'content-type': isForm ? `multipart/form-data; boundary=${BOUNDARY}` : 'application/json' },
    body: Buffer.alloc(0),
  }
  let json = body
  const count = Math.floor(random() * 4)
  const rest: (() => void)[] = []
  for (let fault = 0; fault < count; fault++) {
    const kind = random()
    if (kind < 0.7 && json !== undefined && !isForm) json = changed(json, random)
    else if (kind < 0.8) drawn.path = otherPath(drawn.path, random)
    else if (kind < 0.88) drawn.headers = otherHeaders(drawn.headers, random)
    else if (kind < 0.91) drawn.method = pick(['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'HEAD'])
    else
      rest.push(() => {
        drawn.body = garbled(drawn.body, random)
      })
  }
  if (json !== undefined) drawn.body = Buffer.from(isForm ? (json as string) : JSON.stringify(json))
  for (const act of rest) act()
  return drawn
}
