/**
 * A form of rows, which has a file of its own. It gives its columns, reads its rows, and tells the encoder whether a row is
 * a chat, a prompt with its completion, a text, or answers that are rows of other forms. Shared code reads these fields and
 * never compares the name of a form. To add one, write such a file and run `node scripts/records.mjs`.
 */
import type { DatasetMessage } from '../../tokenizer/message.js'
import type { RowPlace } from '../dataset/place.js'
import type { Json } from '../dataset/value.js'
import type { DropReason, EncodedRow, TrainOn } from '../encoded-row.js'
import type { AnswerRow, Around, DatasetRow, MessagesRow, Question } from '../rows.js'

export interface Form<Row extends DatasetRow = DatasetRow, Name extends string = Row['format']> {
  readonly name: Name
  /** Its place among the forms. A row with the columns of several forms is of the first. */
  readonly precedence: number
  /** An example, for messages. */
  readonly expected: string
  /** The columns that its rows have, each with its meaning. */
  readonly columns: Readonly<Record<string, string>>
  /** Columns that a row may lack. */
  readonly optional?: Readonly<Record<string, string>>
  /** True for a row of this form. Default: for one with all of its columns. */
  recognizes?(value: Json): boolean
  /** For a form that only tasks ask for: advice on a row that is probably meant for one. */
  readonly ofTask?: {
    advice?(value: Json): string | undefined
    /** True if the advice also explains why such a row lacks the columns of another form. */
    readonly namesAnswers?: true
  }
  /** For rows that are a chat: the column of its messages, and its own names in them. */
  readonly chat?: { readonly column: string; readonly names?: MessageNames }
  /**
   * The row, which may be one of another form.
   * @throws {DataError} for anything else
   */
  read(value: Json, reading: Reading): DatasetRow
  /** Absent if its rows become those of other forms. */
  readonly rows?: RowRules<Row> | AnswersRules<Row>
  /** How a task without a form of its own reads its data, if not in this form. */
  untasked?(columns: Readonly<Record<string, string>>): {
    format: DatasetRow['format']
    columns: Readonly<Record<string, string>>
  }
}

/** Names in the messages of a form that differ from those of OpenAI. */
export interface MessageNames {
  /** Its keys, for messages. */
  readonly keys: string
  /** Standard roles by its own. */
  readonly roles: ReadonlyMap<string, string>
  has(message: Json): boolean
  /** The message with standard keys. @throws {DataError} for a malformed one */
  standard(message: Json, where: string, place: RowPlace): Json
}

/** The place of a row, and the means to read its values. */
export interface Reading {
  readonly place: RowPlace
  /** True for the text of a whole file. */
  readonly isFile: boolean
  /** The columns in which forms have chats. */
  readonly chatColumns: readonly string[]
  /** The error for a column that is missing or has another value. */
  wrong(key: string): Error
  messages(list: unknown[], key: string): DatasetMessage[]
  tools(value: Json): Pick<MessagesRow, 'tools'>
  /** Parses a list, which tables store as a JSON string. */
  parsed(value: unknown, key: string): unknown
  /** Reads a row in another form. */
  as(form: Form, value: Json): DatasetRow
}

/** How rows that are not chats are asked, where the model has a chat template. */
export interface Asked {
  /** True if prompts are user turns. */
  readonly prompts: boolean
  /** True if instructions are user turns. */
  readonly instructions: boolean
  /** The system prompt before those turns. */
  readonly system: string | null
}

/** A row without a template: a text that is trained on as a whole, or one of which the completion is. */
export type Plain = { text: string } | { prompt: string; completion: string }

export interface RowRules<Row extends DatasetRow> {
  /** The row as a chat, if the chat template renders it. */
  chat?(row: Row, asked: Asked): MessagesRow | undefined
  /** True if the chat may have earlier answers. */
  readonly hasHistory?: true
  /** The row in plain text, if it is no chat. @throws {DataError} for one that needs a template */
  plain?(row: Row): Plain
  /** The texts around a prompt in plain text, if there are any. */
  around?(row: Row): Around
  /** True for text that is trained on as a whole and has no answer. */
  readonly whole?: true
  /** The text of which a head for classes predicts the label. */
  classified?(row: Row): string
  /** A text that is a label, or may be one. */
  readonly label?: { of(row: Row): string; with(row: Row, label: string): Row }
  /** The first question of the row; undefined if it cannot be asked. */
  question(row: Row, rendering: { lastAnswer(row: MessagesRow): string | undefined }): Question | undefined
  /** The text that starts the row; empty if there is none. */
  opening(row: Row): string
  /** The row without its last answer; undefined if there is nothing before it. */
  prompt?(row: Row): unknown
  /** All texts of the row. */
  texts(row: Row): string[]
  /** Why nothing in the row is trained on. */
  empty(row: Row, trainOn: TrainOn): string
}

/** Rules of rows whose answers are rows of other forms. */
export interface AnswersRules<Row extends DatasetRow> {
  answers(row: Row): AnswerRow[]
  /** The answer that a model should give; undefined if there is none. */
  expected(row: Row): AnswerRow | undefined
  /** The example that the examples of its answers make. */
  joined(row: Row, answers: readonly EncodedRow[]): EncodedRow | DropReason
}
