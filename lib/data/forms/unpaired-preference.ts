/** Answers that are good or bad by themselves, each with a label that says which. */
import { describe, rowError } from '../dataset/place.js'
import type { AnswerRow, UnpairedRow } from '../rows.js'
import type { Form } from './form.js'
import { promptCompletion } from './prompt-completion.js'

/** Labels of tables are strings, and some data writes them as 1 and 0. */
const VERDICTS = new Map<unknown, boolean>([
  ...[true, 1, 'true', '1'].map((good) => [good, true] as const),
  ...[false, 0, 'false', '0'].map((bad) => [bad, false] as const),
])
const verdictOf = (label: unknown) =>
  VERDICTS.get(typeof label === 'string' ? label.trim().toLowerCase() : label)

/** True if a label is certainly a verdict; 1 and 0 may be classes. */
const isVerdict = (label: unknown): boolean =>
  typeof label === 'boolean' || (typeof label === 'string' && /^(?:true|false)$/i.test(label))

const hasAnswer = (value: object): boolean => 'prompt' in value && 'completion' in value

export const unpairedPreference: Form<UnpairedRow> = {
  name: 'unpaired_preference',
  precedence: 40,
  expected: '{"prompt": …, "completion": …, "label": true or false}',
  columns: { prompt: 'the prompt', completion: 'the completion', label: 'whether the answer is good' },
  recognizes: (value) => hasAnswer(value) && verdictOf(value.label) !== undefined,
  ofTask: {
    advice: (value) =>
      hasAnswer(value) && isVerdict(value.label)
        ? 'the row has "prompt", "completion" and a "label" of true or false, as for preference training: set task: kto for it; to train on the good answers alone, remove the rows whose label is false, and set format: prompt_completion'
        : undefined,
  },
  read(value, { place, wrong, parsed, as }) {
    const { label } = value
    if (label === undefined || label === null) throw wrong('label')
    const desirable = verdictOf(label)
    if (desirable === undefined)
      throw rowError(
        place,
        `"label" must be true for a good answer or false for a bad one, not ${describe(label)}`,
      )
    const answer = as(promptCompletion, {
      ...value,
      prompt: parsed(value.prompt, 'prompt'),
      completion: parsed(value.completion, 'completion'),
    })
    return { format: 'unpaired_preference', answer: answer as AnswerRow, desirable, ...place }
  },
  rows: {
    answers: ({ answer }) => [answer],
    // A bad answer is not the expected one.
    expected: ({ answer, desirable }) => (desirable ? answer : undefined),
    joined: ({ desirable }, [answer]) => ({ ...(answer as NonNullable<typeof answer>), desirable }),
  },
  untasked: (columns) => ({ format: 'prompt_completion', columns }),
}
