/** The forms of data, in the order of precedence. Written by `node scripts/records.mjs`. */
import type { DatasetRow } from '../rows.js'
import { alpaca } from './alpaca.js'
import { classification } from './classification.js'
import type { Form } from './form.js'
import { messages } from './messages.js'
import { preference } from './preference.js'
import { promptCompletion } from './prompt-completion.js'
import { shareGpt } from './sharegpt.js'
import { text } from './text.js'
import { unpairedPreference } from './unpaired-preference.js'

/** Names of the forms of data. */
export type DatasetFormat =
  | 'preference'
  | 'messages'
  | 'sharegpt'
  | 'unpaired_preference'
  | 'prompt_completion'
  | 'alpaca'
  | 'classification'
  | 'text'

export type FormColumn =
  | 'prompt'
  | 'chosen'
  | 'rejected'
  | 'messages'
  | 'system'
  | 'tools'
  | 'conversations'
  | 'completion'
  | 'label'
  | 'instruction'
  | 'output'
  | 'input'
  | 'history'
  | 'text'

export const ALL_FORMS: readonly Form<DatasetRow, DatasetFormat>[] = [
  preference,
  messages,
  shareGpt,
  unpairedPreference,
  promptCompletion,
  alpaca,
  classification,
  text,
]
