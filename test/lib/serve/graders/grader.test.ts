import { expect, test } from 'vitest'
import { ApiError } from '../../../../lib/serve/errors.js'
import { checkItems, graded, rewardBy } from '../../../../lib/serve/graders/grade.js'
import { graderOf } from '../../../../lib/serve/graders/grader.js'
import { runGrader, validateGrader } from '../../../../lib/serve/graders/routes.js'
import { scratchFile } from '../../scratch.js'

const check = (input: string, reference: string, operation = 'eq') => ({
  ...{ type: 'string_check', name: 'check', input, reference, operation },
})
const similar = (evaluation_metric: string) => ({
  ...{ type: 'text_similarity', name: 'similar', evaluation_metric },
  ...{ input: '{{ sample.output_text }}', reference: '{{item.answer}}' },
})
const grade = (grader: object, output: string, item: Record<string, unknown> = {}) =>
  graded(graderOf(grader, ['grader']), { output, item })
const reward = (...given: Parameters<typeof grade>) => grade(...given).reward

test('texts are compared by each operation', () => {
  const rows: [operation: string, input: string, reference: string, reward: number][] = [
    ['eq', 'Paris', 'Paris', 1],
    ['eq', 'Paris', 'paris', 0],
    ['eq', 'Paris ', 'Paris', 0],
    ['ne', 'Paris', 'Paris', 0],
    ['ne', 'Paris', 'Rome', 1],
    ['neq', 'Paris', 'Rome', 1],
    ['like', 'In Paris.', 'Paris', 1],
    ['like', 'In Paris.', 'paris', 0],
    ['like', 'Paris', 'In Paris', 0],
    ['ilike', 'In PARIS.', 'paris', 1],
    ['ilike', 'In Rome.', 'paris', 0],
  ]
  for (const [operation, input, reference, expected] of rows)
    expect(reward_(operation, input, reference), `${input} ${operation} ${reference}`).toBe(expected)
})
const reward_ = (operation: string, input: string, reference: string) =>
  reward(check('{{sample.output_text}}', '{{ item.answer }}', operation), input, { answer: reference })

test('templates have values of the row and of the answer', () => {
  const item = { a: { b: [{ c: 'deep' }, 7] }, n: 3, yes: true, none: null, 'dash-ed': 'd', list: [1, 'x'] }
  const output = '{"city": "Rome", "parts": [{"n": 2.5}]}'
  const rows: [template: string, text: string][] = [
    ['no variable', 'no variable'],
    ['{{ item.a.b[0].c }}', 'deep'],
    ['<{{item.n}}|{{ item.a.b[1] }}>', '<3|7>'],
    ['{{item.yes}} {{item.none}} {{item.dash-ed}}', 'true null d'],
    ['{{item.list}}', '[1,"x"]'],
    ['{{sample.output_json.city}}', 'Rome'],
    ['{{sample.output_json.parts[0].n}}', '2.5'],
    ['{{sample.output_json}}', '{"city":"Rome","parts":[{"n":2.5}]}'],
    ['{{sample.output_text}}', output],
    ['', ''],
  ]
  for (const [template, text] of rows) expect(reward(check(template, text), output, item), template).toBe(1)
  // What a row says is no template, and no property that all objects have.
  expect(
    reward(check('{{item.t}}', '{{sample.output_text}}'), '{{item.u}}', { t: '{{item.u}}', u: '' }),
  ).toBe(1)
  expect(grade(check('{{item.toString}}', ''), '').problems[0]?.kind).toBe('invalid_variable_error')
})

test('an answer that does not have what is looked at gets 0, and a row that does not is an error', async () => {
  const json = check('{{sample.output_json.city}}', 'Rome')
  expect(grade(json, 'Rome')).toMatchObject({
    reward: 0,
    problems: [{ kind: 'sample_parse_error', ofItem: false }],
  })
  expect(grade(json, '{"town": "Rome"}')).toMatchObject({
    reward: 0,
    problems: [{ kind: 'invalid_variable_error', ofItem: false }],
  })
  expect(reward(check('{{sample.output_json.city}}', 'Rome', 'ne'), 'Rome')).toBe(0)
  const score = rewardBy(graderOf(similar('fuzzy_match'), ['grader']))
  const about = { prompt: '', expected: '' }
  expect(score({ ...about, prediction: 'Rome', item: { answer: 'Rome' } })).toBe(1)
  expect(() => score({ ...about, prediction: 'Rome', item: { reply: 'Rome' } })).toThrow(
    'there is no item.answer',
  )
  expect(rewardBy(graderOf(json, ['grader']))({ ...about, prediction: 'Rome', item: {} })).toBe(0)
  const row = (extra: object) =>
    `${JSON.stringify({ messages: [{ role: 'user', content: 'a' }], ...extra })}\n`
  const path = scratchFile('rows.jsonl', row({ answer: 'x' }) + row({ answer: null }) + row({ reply: 'x' }))
  const one = graderOf({ ...multi('a'), graders: { a: similar('gleu') } }, ['grader'])
  await expect(checkItems(path, one)).rejects.toThrow(
    'rows.jsonl, line 3: there is no item.answer, which the grader looks at; add it to the row',
  )
  await checkItems(path, graderOf(json, ['grader']))
  const long = 'a'.repeat(40_000)
  expect(grade(similar('rouge_l'), long, { answer: 'a' }).problems[0]?.kind).toBe('other_error')
})

const multi = (calculate_output: string) => ({
  ...{ type: 'multi', name: 'all', calculate_output },
  graders: {
    exact: check('{{sample.output_text}}', '{{item.answer}}'),
    near: similar('fuzzy_match'),
  } as object,
})

test('several graders are joined by a formula', () => {
  const item = { answer: 'abcd' }
  expect(grade(multi('0.25 * exact + near / 2'), 'abxx', item)).toEqual({
    reward: 0.25,
    parts: { exact: 0, near: 0.5 },
    problems: [],
  })
  expect(reward(multi('max(exact, near)'), 'abcd', item)).toBe(1)
  for (const formula of ['1 / exact', 'log(exact)', 'sqrt(exact - 1)', '10 ^ 400 * (1 - exact)'])
    expect(grade(multi(formula), 'xx', item), formula).toMatchObject({
      reward: 0,
      problems: [{ kind: 'other_error' }],
    })
  // A part that fails counts 0, and the others count.
  const parsed = { json: check('{{sample.output_json.a}}', '1'), near: similar('fuzzy_match') }
  expect(grade({ ...multi('json + near'), graders: parsed }, 'abcd', item)).toMatchObject({
    reward: 1,
    problems: [{ kind: 'sample_parse_error' }],
  })
  // The types of the clients have one grader, and the specification a list.
  const near = { ...similar('fuzzy_match'), name: 'near' }
  for (const graders of [near, [near], [near, { ...check('a', 'a'), name: undefined }]])
    expect(reward({ ...multi('near'), graders }, 'abcd', item)).toBe(1)
})

const refusal = (grader: unknown): Pick<ApiError, 'message' | 'param' | 'code'> => {
  try {
    graderOf(grader, ['grader'])
  } catch (error) {
    if (error instanceof ApiError) return error
    throw error
  }
  throw new Error('the grader was accepted')
}

test('what is no grader, or needs more than the texts, is refused by its name', () => {
  const unsupported = 'unsupported_parameter'
  const rows: [grader: unknown, param: string, message: string, code?: string][] = [
    [undefined, 'grader', 'a grader', 'missing_required_parameter'],
    [[], 'grader', 'a grader', 'missing_required_parameter'],
    [{ type: 'exact' }, 'grader.type', 'expected string_check, text_similarity or multi; got "exact"'],
    [{ name: 'x' }, 'grader.type', 'got null'],
    [
      { type: 'python', source: 'x' },
      'grader.type',
      "cannot be 'python' here: no code of graders is run",
      unsupported,
    ],
    [{ type: 'score_model' }, 'grader.type', "cannot be 'score_model'", unsupported],
    [{ type: 'label_model' }, 'grader.type', "cannot be 'label_model'", unsupported],
    [{ type: 'endpoint', url: 'http://x' }, 'grader.type', "cannot be 'endpoint'", unsupported],
    [similar('cosine'), 'grader.evaluation_metric', 'it needs embeddings', unsupported],
    [similar('meteor'), 'grader.evaluation_metric', 'WordNet', unsupported],
    [similar('rouge_6'), 'grader.evaluation_metric', 'rouge_5'],
    [{ ...similar('bleu'), pass_threshold: 1 }, 'grader.pass_threshold', 'Unrecognized', 'unknown_parameter'],
    [check('a', 'b', 'matches'), 'grader.operation', 'expected eq, ne, like or ilike'],
    [{ ...check('a', 'b'), input: 7 }, 'grader.input', 'expected a text; got 7'],
    [
      { ...check('a', 'b'), input: undefined },
      'grader.input',
      'Missing required parameter',
      'missing_required_parameter',
    ],
    [check('{{ item }}', 'b'), 'grader.input', '{{ item }} is no variable of item or sample'],
    [check('a', '{{ row.x }}'), 'grader.reference', '{{ row.x }} is no variable'],
    [check('a', '{{ item.x + 1 }}'), 'grader.reference', 'is no variable'],
    [check('{{ item.x', 'b'), 'grader.input', 'belong around a variable'],
    [
      check('{{sample.output_tools[0].function.name}}', 'b'),
      'grader.input',
      'an answer has sample.output_text and',
    ],
    [check('{{sample.choices[0].message}}', 'b'), 'grader.input', 'is not supported'],
    [{ ...multi('exact'), graders: {} }, 'grader.graders', 'Expected 1 to 32 graders'],
    [{ ...multi('exact'), graders: 'x' }, 'grader.graders', 'expected an object of graders'],
    [{ ...multi('min'), graders: { min: check('a', 'b') } }, 'grader.graders', '"min"'],
    [{ ...multi('a'), graders: { 'a-b': check('a', 'b') } }, 'grader.graders', '"a-b"'],
    [multi('exact + other'), 'grader.calculate_output', 'there is no grader "other", only exact, near'],
    [multi('exact +'), 'grader.calculate_output', 'the formula ends too early'],
    [
      { ...multi('a'), graders: { a: multi('exact') } },
      'grader.graders.a.type',
      'expected string_check, text_similarity; got "multi"',
    ],
    [
      { ...multi('a'), graders: { a: { type: 'python' } } },
      'grader.graders.a.type',
      "cannot be 'python'",
      unsupported,
    ],
    [
      { ...multi('a'), graders: { a: similar('cosine') } },
      'grader.graders.a.evaluation_metric',
      'embeddings',
      unsupported,
    ],
    [{ ...multi('a'), graders: { a: check('a', 'b', '=') } }, 'grader.graders.a.operation', 'expected eq'],
  ]
  for (const [grader, param, message, code = 'invalid_value'] of rows) {
    const found = refusal(grader)
    expect(found.message, JSON.stringify(grader)).toContain(message)
    expect([found.code, found.param], found.message).toEqual([code, param])
  }
})

test('a grader is tried on an answer', () => {
  const grader = multi('exact + near')
  expect(validateGrader({ grader })).toEqual({ grader })
  expect(() => validateGrader({})).toThrow("Missing required parameter: 'grader'")
  expect(() => runGrader({ grader })).toThrow("Missing required parameter: 'model_sample'")
  expect(() => runGrader({ grader, model_sample: 'a', item: 'b' })).toThrow(
    "Invalid value for 'item': expected an object",
  )
  const clean = {
    ...{ formula_parse_error: false, sample_parse_error: false, truncated_observation_error: false },
    ...{ unresponsive_reward_error: false, invalid_variable_error: false, other_error: false },
    ...{ python_grader_server_error: false, python_grader_server_error_type: null },
    ...{ python_grader_runtime_error: false, python_grader_runtime_error_details: null },
    ...{ model_grader_server_error: false, model_grader_refusal_error: false },
    ...{ model_grader_parse_error: false, model_grader_server_error_details: null },
  }
  expect(runGrader({ grader, model_sample: 'ab', item: { answer: 'abcd' } })).toEqual({
    reward: expect.closeTo(2 / 3, 12),
    sub_rewards: { exact: 0, near: expect.closeTo(2 / 3, 12) },
    metadata: {
      ...{ name: 'all', type: 'multi', errors: clean, execution_time: expect.any(Number) },
      scores: { all: expect.closeTo(2 / 3, 12), exact: 0, near: expect.closeTo(2 / 3, 12) },
      ...{ token_usage: null, sampled_model_name: null },
    },
    model_grader_token_usage_per_model: {},
  })
  const failed = runGrader({ grader: check('{{sample.output_json.a}}', '{{item.b}}'), model_sample: 'no' })
  expect(failed).toMatchObject({
    ...{ reward: 0, sub_rewards: {} },
    metadata: { errors: { ...clean, sample_parse_error: true } },
    lowrank: { problems: ['the answer is not JSON'] },
  })
})
