/**
 * Converts dataset rows to token ids and labels. A label is the id of its own token if the model should learn
 * to write it, otherwise -100. Labels are shifted one position to the left later, when micro-batches are
 * packed.
 */
import { isDeepStrictEqual } from 'node:util'
import { ConfigError, DataError, InternalError, LowrankError } from '../core/errors.js'
import type { PromptFormat } from '../formats/prompt-format.js'
import {
  AmbiguousChat,
  type ChatRenderer,
  type RenderedChat,
  type TurnSpan,
} from '../tokenizer/chat-spans.js'
import type { RenderOptions, Span } from '../tokenizer/chat-template.js'
import { ESCAPE_MARK, withoutMarks } from '../tokenizer/marks.js'
import type { DatasetMessage } from '../tokenizer/message.js'
import { reasoningLength, reasoningOf } from '../tokenizer/reasoning.js'
import { type TokenizerSource, withTemplate } from '../tokenizer/source.js'
import { encodeMarked, type MarkedIds } from '../tokenizer/token-offsets.js'
import { Tokenizer } from '../tokenizer/tokenizer.js'
import { ChatRenderers } from './chat-renderers.js'
import { alpacaAffixes, alpacaChat, alpacaText } from './dataset/alpaca.js'
import {
  type ClassificationRow,
  type DatasetRow,
  type MessagesRow,
  type PreferenceRow,
  type PromptCompletionRow,
  rowError,
  type UnpairedRow,
} from './dataset.js'
import {
  type DropReason,
  type EncodedRow,
  type EncodeRowOptions,
  IGNORE,
  type RowPrompting,
  TRAIN_ON,
} from './encoded-row.js'
import { FormatSeen } from './format-seen.js'
import { labelKey } from './labels.js'
import { SPECIAL_TOKENS_IN_CONTENT, SpecialText } from './special-text.js'
import { endlessTurn, isEmpty, whyEmpty } from './unlearned.js'

const AS_CHATS: RowPrompting = { prompts: true, instructions: true }

/** The tokens of a row, and what was found in it. */
interface Tokens extends MarkedIds {
  specialTokens?: readonly string[]
  emptyTurns?: number
  lostReasoning?: number
}

interface Chat extends RenderedChat {
  renderer: ChatRenderer
  messages: readonly DatasetMessage[]
  /** Number of turns trained on without their reasoning. */
  lostReasoning: number
}

export class RowEncoder {
  readonly tokenizer: Tokenizer
  readonly #options: Required<Omit<EncodeRowOptions, 'templateLimits' | 'labels' | 'stripLabels'>>
  /** Class ids by name. */
  readonly #labels: ReadonlyMap<string, number>
  /** The key that all spellings of a label share. */
  readonly #keyOf: (label: string) => string
  readonly #names: readonly string[]
  readonly #special: SpecialText
  readonly #renderers: ChatRenderers
  readonly #seen = new FormatSeen()
  #format: PromptFormat | null = null
  #dropsHistory: boolean | undefined

  /** @throws {ConfigError} for an option out of range */
  constructor(source: TokenizerSource | Tokenizer, options: EncodeRowOptions) {
    const {
      maxSeqLength,
      trainOn = 'completions',
      trainOnReasoning = true,
      trainEmptyThink = false,
      reasoningHistory = 'keep',
      emptyRows = 'error',
      unended = 'error',
      specialTokensInContent = 'keep',
      now = new Date(),
      prompting = AS_CHATS,
      labels = null,
      stripLabels = false,
      templateLimits,
    } = options
    if (!Number.isInteger(maxSeqLength) || maxSeqLength < 2) {
      throw new ConfigError(`max_seq_length must be an integer of at least 2, not ${maxSeqLength}`, {
        maxSeqLength,
      })
    }
    if (!TRAIN_ON.includes(trainOn)) {
      throw new ConfigError(`train_on must be one of ${TRAIN_ON.join(', ')}, not ${trainOn}`, { trainOn })
    }
    if (!SPECIAL_TOKENS_IN_CONTENT.includes(specialTokensInContent)) {
      throw new ConfigError(
        `special_tokens_in_content must be one of ${SPECIAL_TOKENS_IN_CONTENT.join(', ')}, not ${specialTokensInContent}`,
        { specialTokensInContent },
      )
    }
    this.tokenizer = source instanceof Tokenizer ? source : new Tokenizer(source)
    const { source: own } = this.tokenizer
    this.#renderers = new ChatRenderers(
      this.tokenizer,
      withTemplate(own, prompting.template),
      templateLimits,
      prompting.trainingTemplate !== 'own',
      reasoningHistory === 'drop',
    )
    this.#special = new SpecialText(this.tokenizer, specialTokensInContent)
    this.#keyOf = stripLabels ? labelKey : (label) => label
    this.#labels = new Map(labels?.map((label, id) => [this.#keyOf(label), id]))
    this.#names = labels ?? []
    this.#options = {
      ...{ maxSeqLength, trainOn, trainOnReasoning, trainEmptyThink, reasoningHistory },
      ...{ emptyRows, unended },
      ...{ specialTokensInContent, now, prompting },
    }
  }

  /** Number of special tokens that the tokenizer adds around a text. */
  get #around(): number {
    const ids = this.tokenizer.encode('', { addSpecialTokens: true })
    return ids.filter((id) => this.tokenizer.isSpecial(id)).length
  }

  /** True if a template used so far reads the date. */
  get usesClock(): boolean {
    return this.#renderers.usesClock
  }

  /**
   * Prompt format of the rows so far; null before the first row. The same object is returned until the format
   * changes.
   */
  get format(): PromptFormat | null {
    const { form, system, prefix, suffix, chats, unreasoned, changed } = this.#seen
    if (form === undefined || !changed) return this.#format
    this.#seen.changed = false
    const chat = form === 'chat'
    this.#format = {
      form,
      template: chat ? this.#renderers.template : null,
      ...(chat && this.#renderers.family !== undefined ? { trainingTemplate: this.#renderers.family } : {}),
      ...(chat && unreasoned ? { thinking: false as const } : {}),
      system: chat ? system : null,
      prefix,
      suffix,
      stop: this.#renderers.stops(chats),
    }
    return this.#format
  }

  /** True if the chat template renders the row. */
  rendersChat(row: DatasetRow): boolean {
    const { prompts, instructions } = this.#options.prompting
    if (row.format === 'messages') return true
    const asked = row.format === 'alpaca' ? instructions : row.format === 'prompt_completion' && prompts
    return asked && this.#renderers.template !== null
  }

  /**
   * @returns ids and labels, or why the row was dropped
   * @throws {DataError} when the row is invalid, naming file and line
   */
  encode(row: DatasetRow): EncodedRow | DropReason {
    if (row.format === 'preference') return this.#pair(row)
    if (row.format === 'unpaired_preference') return this.#judged(row)
    return row.format === 'classification' ? this.#labeled(row) : this.#cut(row, this.#checked(row))
  }

  /**
   * Like `encode`, but a document that is too long is split into several examples, and with `reasoningHistory` drop, a
   * chat into one for each answer. Any other row gives one.
   */
  encodeAll(row: DatasetRow): (EncodedRow | DropReason)[] {
    const { maxSeqLength, reasoningHistory } = this.#options
    if (reasoningHistory === 'drop') return this.#perAnswer(row)
    if (row.format === 'preference') return [this.#pair(row)]
    if (row.format === 'unpaired_preference') return [this.#judged(row)]
    if (row.format === 'classification') return [this.#labeled(row)]
    const marked = this.#checked(row)
    if (row.format !== 'text' || !row.document || marked.ids.length <= maxSeqLength)
      return [this.#cut(row, marked)]
    const pieces: EncodedRow[] = []
    // A piece of a single token has nothing to predict.
    for (let start = 0; start + 1 < marked.ids.length; start += maxSeqLength) {
      const ids = marked.ids.slice(start, start + maxSeqLength)
      const inside = marked.inside.subarray(start, start + maxSeqLength)
      const { specialTokens = [] } = start === 0 ? marked : {}
      pieces.push(this.#cut(row, { ids, inside, specialTokens }) as EncodedRow)
    }
    return pieces
  }

  /** An example for each answer, which ends the chat before it. */
  #perAnswer(row: DatasetRow): (EncodedRow | DropReason)[] {
    const chat = this.#chatOf(row)
    const learned = this.#learned(chat)
    const empty = learned.filter(isEmpty)
    this.#refuseEmpty(chat, learned, empty)
    const answers = learned.filter((message) => !isEmpty(message))
    if (answers.length === 0) return [this.#cut(chat, this.#checked(chat))]
    const examples = answers.map((answer, index) => {
      const before = chat.messages.slice(0, chat.messages.indexOf(answer))
      const context = before.map((message) => ({ ...message, weight: 0 as const }))
      const part = { ...chat, messages: [...context, answer] }
      // As in one example of the whole chat, later answers may be cut off.
      return this.#cut(part, this.#checked(part), index === 0 ? this.#options.emptyRows : 'drop')
    })
    return whole(examples, empty.length)
  }

  /** @throws {ConfigError} unless the row is a chat whose template leaves out earlier reasoning */
  #chatOf(row: DatasetRow): MessagesRow {
    const refused = (why: string) =>
      new ConfigError(`reasoning_history is drop, but ${why}; use reasoning_history: keep.`, {
        reasoningHistory: 'drop',
      })
    if (this.#options.trainOn === 'all')
      throw refused('train_on is all, which has no answers to make examples of')
    const chat = row.format === 'messages' ? row : row.format === 'alpaca' ? alpacaChat(row) : undefined
    if (chat === undefined || !this.rendersChat(row))
      throw refused(`rows of the format ${row.format} have no turns before an answer`)
    const told = row.format === 'messages' ? chat : this.#told(chat)
    this.#dropsHistory ??= this.#renderers.of(told).dropsHistory()
    if (!this.#dropsHistory)
      throw refused('the chat template keeps the reasoning of earlier turns, or renders no reasoning')
    return told
  }

  /** A text with its class, predicted at the last token; no end token is added. */
  #labeled(row: ClassificationRow): EncodedRow | DropReason {
    const target = this.#labels.get(this.#keyOf(row.label))
    if (target === undefined)
      throw rowError(
        row,
        `the label ${JSON.stringify(row.label)} is none of those that the head has: ${this.#names.join(', ')}`,
      )
    const { text, found } = this.#special.inText(row, row.text)
    const marked = this.#special.isMarked(text)
    const all = this.#withoutDoubleBos(this.tokenizer.encode(text, { addSpecialTokens: true, marked }))
    if (marked) this.#special.checkEscaped(row, text, all, this.#around)
    const { maxSeqLength, emptyRows } = this.#options
    if (all.length === 0 || row.text.trim() === '') {
      if (emptyRows === 'drop') return 'nothing_to_learn'
      throw rowError(row, 'the text is empty; remove the row, or drop such rows with empty_rows: drop')
    }
    const inputIds = Int32Array.from(all.slice(0, maxSeqLength))
    const { path, line, unit, group } = row
    return {
      inputIds,
      labels: new Int32Array(inputIds.length).fill(IGNORE),
      target,
      supervised: 1,
      truncated: all.length > maxSeqLength,
      fullLength: all.length,
      ended: true,
      specialTokens: found,
      emptyTurns: 0,
      lostReasoning: 0,
      ...{ path, line, ...(unit ? { unit } : {}), ...(group === undefined ? {} : { group }) },
    }
  }

  /** Both answers as one row. The pair is dropped if either answer is, or if both are equal after truncation. */
  #pair({ chosen, rejected }: PreferenceRow): EncodedRow | DropReason {
    const [one, other] = [chosen, rejected].map((side) => this.#cut(side, this.#checked(side))) as [
      EncodedRow | DropReason,
      EncodedRow | DropReason,
    ]
    if (typeof one === 'string') return one
    if (typeof other === 'string') return other
    if (isDeepStrictEqual(one.inputIds, other.inputIds)) return 'truncated_away'
    const joined = (key: 'inputIds' | 'labels') => {
      const both = new Int32Array(one[key].length + other[key].length)
      both.set(one[key])
      both.set(other[key], one[key].length)
      return both
    }
    return {
      ...one,
      inputIds: joined('inputIds'),
      labels: joined('labels'),
      supervised: one.supervised + other.supervised,
      split: one.inputIds.length,
      truncated: one.truncated || other.truncated,
      fullLength: one.fullLength + other.fullLength,
      specialTokens: [...one.specialTokens, ...other.specialTokens],
    }
  }

  #judged({ answer, desirable }: UnpairedRow): EncodedRow | DropReason {
    const encoded = this.#cut(answer, this.#checked(answer))
    return typeof encoded === 'string' ? encoded : { ...encoded, desirable }
  }

  #cut(
    row: DatasetRow,
    { ids, inside, specialTokens = [], emptyTurns = 0, lostReasoning = 0 }: Tokens,
    emptyRows = this.#options.emptyRows,
  ): EncodedRow | DropReason {
    const { maxSeqLength } = this.#options
    const truncated = ids.length > maxSeqLength
    const length = Math.min(ids.length, maxSeqLength)
    const inputIds = new Int32Array(length)
    const labels = new Int32Array(length)
    let supervised = 0
    for (let i = 0; i < length; i++) {
      inputIds[i] = ids[i] as number
      labels[i] = inside[i] ? (ids[i] as number) : IGNORE
      // The first token cannot be predicted, since nothing precedes it.
      if (inside[i] && i > 0) supervised++
    }
    if (supervised > 0) {
      const ended =
        row.format === 'text' || !truncated || labels.some((label, i) => i > 0 && this.#isEnd(label))
      const { path, line, unit, group } = row
      const place = { path, line, ...(unit ? { unit } : {}), ...(group === undefined ? {} : { group }) }
      const found = { specialTokens, emptyTurns, lostReasoning }
      return { inputIds, labels, supervised, truncated, fullLength: ids.length, ended, ...found, ...place }
    }
    const reason = inside.indexOf(1, 1) > 0 ? 'truncated_away' : 'nothing_to_learn'
    if (emptyRows === 'drop') return reason
    throw rowError(
      row,
      reason === 'nothing_to_learn'
        ? `there is nothing to train on (${whyEmpty(row, this.#options.trainOn)}); remove the row, or drop such rows with empty_rows: drop`
        : `there is nothing to train on: that part begins at token ${inside.indexOf(1, 1) + 1}, and max_seq_length truncates the row to ${maxSeqLength}; raise max_seq_length, or drop such rows with empty_rows: drop`,
    )
  }

  /** True if a token ends an answer: an EOS, or an added token, which ends a turn. */
  #isEnd(label: number): boolean {
    return (
      label !== IGNORE &&
      (this.tokenizer.eosIds.includes(label) || this.tokenizer.addedToken(label) !== undefined)
    )
  }

  /** Tokenizes the whole row, and checks that it begins with at most one BOS. */
  #checked(row: DatasetRow): Tokens {
    const marked = this.#encode(row)
    const { bosId, eosId } = this.tokenizer
    const [first, second] = marked.ids
    if (bosId !== undefined && bosId !== eosId && first === bosId && second === bosId) {
      const { bos_token: bos } = this.tokenizer.specialTokens
      const source = this.rendersChat(row)
        ? 'the chat template writes one, and another is in its text or in the first message'
        : 'the text begins with it more than once'
      throw rowError(
        row,
        `the begin-of-sequence token ${bos} occurs twice at the beginning: ${source}; remove one`,
      )
    }
    return marked
  }

  #encode(row: DatasetRow): Tokens {
    const chat = this.rendersChat(row)
    switch (row.format) {
      case 'text': {
        this.#seen.add(this.#renderers.wrote(row.text) ? { system: null } : { prefix: '', suffix: '' })
        const { text, found } = this.#special.inText(row, row.text)
        return { ...this.#wholeText(row, text), specialTokens: found }
      }
      case 'prompt_completion':
        if (chat) return this.#promptChat(row)
        this.#seen.add({ prefix: '', suffix: '' })
        return this.#promptCompletion(row)
      case 'alpaca':
        if (chat) return this.#chat(this.#told(alpacaChat(row)))
        this.#seen.add(alpacaAffixes(row))
        return this.#promptCompletion(alpacaText(row))
      case 'messages':
        return this.#chat(row)
      case 'preference':
      case 'unpaired_preference':
      case 'classification':
        throw new InternalError(`rows of ${row.format} are encoded in a way of their own`)
    }
  }

  /** Converts a prompt and its completion to two turns. */
  #promptChat({ prompt, completion, format: _, ...place }: PromptCompletionRow): Tokens {
    const messages = [
      { role: 'user', content: prompt },
      { role: 'assistant', content: completion },
    ]
    return this.#chat(this.#told({ format: 'messages', messages, ...place }))
  }

  /** Adds the system prompt from the options, if the chat has none. */
  #told(row: MessagesRow): MessagesRow {
    const { system = null } = this.#options.prompting
    if (system === null || row.messages[0]?.role === 'system') return row
    return { ...row, messages: [{ role: 'system', content: system }, ...row.messages] }
  }

  #wholeText(row: DatasetRow, text: string, addSpecialTokens = true): MarkedIds {
    const marked = this.#special.isMarked(text)
    const ids = this.tokenizer.encode(text, { addSpecialTokens, marked })
    if (marked) this.#special.checkEscaped(row, text, ids, addSpecialTokens ? this.#around : 0)
    const once = addSpecialTokens ? this.#withoutDoubleBos(ids) : ids
    const whole = { ids: once, inside: new Uint8Array(once.length).fill(1) }
    return addSpecialTokens ? this.#withEos(whole) : whole
  }

  #promptCompletion(row: PromptCompletionRow): Tokens {
    const { text, found } = this.#special.inText(row, row.prompt + row.completion)
    if (this.#options.trainOn === 'all') return { ...this.#wholeText(row, text), specialTokens: found }
    const length = row.prompt.length
    const start = this.#special.isMarked(text) ? markedPlace(text, length) : length
    const spans = row.completion === '' ? [] : [{ start, end: text.length }]
    const { bos_token: bos } = this.tokenizer.specialTokens
    const addSpecialTokens = bos === undefined || !text.startsWith(bos)
    const marked = this.#marked(row, text, spans, addSpecialTokens)
    return { ...(row.completion === '' ? marked : this.#closed(row, marked)), specialTokens: found }
  }

  #chat(row: MessagesRow): Tokens {
    const { trainOn } = this.#options
    const [first] = row.messages
    this.#seen.add({ system: first?.role === 'system' ? first.content : null })
    const specialTokens = this.#special.inContent(row, [
      row.messages.map(({ role: _, ...message }) => message),
      row.tools,
    ])
    const learned = this.#learned(row)
    const empty = learned.filter(isEmpty)
    this.#refuseEmpty(row, learned, empty)
    try {
      const chat = this.#rendered(row, this.#special.escapes(specialTokens))
      const { messages, renderer, text, lostReasoning } = chat
      if (trainOn !== 'all')
        return { ...this.#turns(row, chat), specialTokens, emptyTurns: empty.length, lostReasoning }
      const whole = this.#wholeText(row, text, false)
      if (empty.length > 0) whole.inside.fill(0)
      const open = messages.at(-1)?.role === 'assistant' && !renderer.isTerminated(text)
      return { ...(open && empty.length === 0 ? this.#withEos(whole) : whole), specialTokens, lostReasoning }
    } catch (cause) {
      throw this.#named(row, cause)
    }
  }

  /** @throws {DataError} for a turn that would teach the model to say nothing */
  #refuseEmpty(
    row: MessagesRow,
    learned: readonly DatasetMessage[],
    [first, ...more]: readonly DatasetMessage[],
  ): void {
    const { trainOn, emptyRows } = this.#options
    // If all turns are empty, the error concerns the row as a whole.
    const isWhole = trainOn !== 'all' && 1 + more.length === learned.length
    if (first === undefined || emptyRows !== 'error' || isWhole) return
    const answers = row.messages.filter(({ role }) => role === 'assistant')
    throw rowError(
      row,
      `assistant turn ${answers.indexOf(first) + 1} of ${answers.length} is empty, which would teach the model to say nothing; fill it in, give it "weight": 0, remove the row, or drop such turns with empty_rows: drop`,
    )
  }

  /** The assistant messages that are trained on. */
  #learned({ messages }: MessagesRow): DatasetMessage[] {
    const answers = messages.filter(({ role }) => role === 'assistant')
    const asked = this.#options.trainOn === 'last' ? answers.slice(-1) : answers
    return asked.filter(({ weight }) => weight !== 0)
  }

  /**
   * The last answer of a chat as a model writes it, without the token that ends it; undefined if the template does not
   * tell where it is.
   */
  lastAnswer(row: MessagesRow): string | undefined {
    const { renderer, messages, options, reasons } = this.#plain(row)
    const answer = renderer.lastAnswer(messages, options)
    const block = reasons || this.#options.trainEmptyThink ? '' : renderer.noThought()
    return answer?.startsWith(block) ? answer.slice(block.length) : answer
  }

  /** The chat as its template gets it, and whether it has reasoning that the template shows. */
  #plain(row: MessagesRow) {
    const { trainEmptyThink, reasoningHistory, now } = this.#options
    const renderer = this.#renderers.of(row)
    const messages = renderer.withReasoning(
      row.messages.map(({ weight, ...message }): DatasetMessage => message),
    )
    const asUsed = reasoningHistory === 'drop'
    const reasons = (asUsed ? messages.slice(-1) : messages).some(
      (message) => reasoningOf(message).length > 0,
    )
    const options: RenderOptions = {
      now,
      ...(reasons ? (asUsed ? renderer.reasoned() : {}) : trainEmptyThink ? {} : renderer.unreasoned()),
      ...(row.tools ? { tools: row.tools } : {}),
    }
    return { renderer, messages, options, reasons }
  }

  /** Renders the chat with its template; special tokens to be escaped are marked. */
  #rendered(row: MessagesRow, escapes: boolean): Chat {
    const { trainOn } = this.#options
    const { renderer, ...plain } = this.#plain(row)
    const needed = this.#learned(row).map((message) => row.messages.indexOf(message))
    const unknown = renderer.refused(plain.messages)
    if (unknown !== undefined) throw rowError(row, unknown)
    const turnsOf = (messages: DatasetMessage[], options: RenderOptions): Omit<Chat, 'lostReasoning'> =>
      trainOn === 'all'
        ? { renderer, messages, text: renderer.text(messages, options), turns: [] }
        : { renderer, messages, ...renderer.turns(messages, options, needed) }
    const chat = escapes
      ? turnsOf(
          plain.messages.map(
            ({ role, ...message }) => ({ role, ...this.#special.escapeIn(message) }) as DatasetMessage,
          ),
          { ...plain.options, ...(row.tools ? { tools: this.#special.escapeIn(row.tools) } : {}) },
        )
      : turnsOf(plain.messages, plain.options)
    const text = escapes ? renderer.text(plain.messages, plain.options) : chat.text
    if (escapes && withoutMarks(chat.text) !== text)
      throw rowError(
        row,
        'the chat template changes text that contains special tokens, so they cannot be escaped; remove them',
      )
    const dropped = renderer.dropped(text, plain.messages, plain.options)
    if (dropped !== undefined) throw rowError(row, dropped)
    const unreasoned = this.#unreasoned(row, renderer.droppedReasoning(text, plain.messages, plain.options))
    if (unreasoned.last !== undefined)
      throw rowError(row, renderer.lostReasoning(plain.messages, unreasoned.last, plain.options))
    return { ...chat, lostReasoning: unreasoned.earlier }
  }

  /**
   * Turns trained on without their reasoning. Templates of reasoning models omit it from earlier turns by
   * design, as they do when the model is used. If the last turn lacked it, the reasoning would never be trained
   * on.
   */
  #unreasoned(row: MessagesRow, dropped: readonly number[]): { last?: number; earlier: number } {
    if (dropped.length === 0) return { earlier: 0 }
    const learned = this.#learned(row)
    const lost = dropped.filter((index) => learned.includes(row.messages[index] as DatasetMessage))
    const last = row.messages.findLastIndex(({ role }) => role === 'assistant')
    return lost.includes(last) ? { last, earlier: lost.length - 1 } : { earlier: lost.length }
  }

  #turns(row: MessagesRow, { text, turns, renderer, messages }: Chat): MarkedIds {
    const { trainOn, unended } = this.#options
    const wanted = (trainOn === 'last' ? turns.slice(-1) : turns)
      .filter(({ message }) => {
        const told = row.messages[message] as DatasetMessage
        return told.weight !== 0 && !isEmpty(told)
      })
      .map((turn) => this.#withoutThought(text, turn, messages[turn.message] as DatasetMessage, renderer))
    const marked = this.#marked(row, text, wanted, false)
    const last = wanted.at(-1)
    const open = last !== undefined && !last.terminated && last.end === text.length
    if (open) return this.#closed(row, marked)
    if (last !== undefined && unended === 'error' && !wanted.some(({ terminated }) => terminated))
      throw endlessTurn(row, text, last)
    return marked
  }

  /** The trained part of a turn: without text that belongs to the prompt, and possibly without its reasoning. */
  #withoutThought(text: string, turn: TurnSpan, message: DatasetMessage, renderer: ChatRenderer): TurnSpan {
    const { trainOnReasoning, trainEmptyThink } = this.#options
    const said = text.slice(turn.start, turn.end)
    const reasoned = reasoningOf(message).length > 0
    const block = trainEmptyThink || reasoned ? '' : renderer.noThought()
    const isInPrompt = block !== '' && said.startsWith(block)
    this.#seen.addAnswer(isInPrompt || (block !== '' && text.slice(0, turn.start).endsWith(block)))
    if (isInPrompt) return { ...turn, start: turn.start + block.length }
    if (trainOnReasoning || !reasoned) return turn
    return { ...turn, start: turn.start + reasoningLength(said) }
  }

  #marked(row: DatasetRow, text: string, spans: readonly Span[], addSpecialTokens: boolean): MarkedIds {
    const escaped = this.#special.isMarked(text)
    const marked = encodeMarked(this.tokenizer, text, spans, addSpecialTokens, escaped)
    if (marked) {
      if (escaped) this.#special.checkEscaped(row, text, marked.ids, addSpecialTokens ? this.#around : 0)
      return marked
    }
    throw rowError(
      row,
      'the tokens of this text do not reproduce it exactly, so the trained part cannot be marked; the tokenizer may drop or change a character. Use train_on: all, or remove the row',
    )
  }

  #named(row: DatasetRow, cause: unknown): unknown {
    if (cause instanceof AmbiguousChat) {
      const asUsed = this.#leavesOutReasoning(row) ? 'reasoning_history: drop, ' : ''
      const several = row.format === 'messages' && this.#learned(row).length > 1
      const last = several ? 'train_on: last, ' : ''
      return rowError(
        row,
        `${cause.message}; use ${asUsed}${last}a template with {% generation %} markers, train_on: all, or one assistant turn per row`,
        cause,
      )
    }
    const named = cause instanceof DataError && 'line' in cause.details
    return cause instanceof LowrankError && !named ? rowError(row, cause.message, cause) : cause
  }

  /** True if the row is trained on as a whole, with a template that leaves out the reasoning of earlier turns. */
  #leavesOutReasoning(row: DatasetRow): boolean {
    if (row.format !== 'messages' || this.#options.reasoningHistory === 'drop') return false
    return this.#renderers.of(row).dropsHistory()
  }

  /** Appends an EOS to the assistant's text; otherwise the model would not learn to stop. */
  #closed(row: DatasetRow, marked: MarkedIds): MarkedIds {
    if (this.tokenizer.eosId === undefined && this.#options.unended === 'error')
      throw rowError(
        row,
        'the model cannot learn to stop: the tokenizer has no end-of-sequence token; set eos_token in tokenizer_config.json, or train without an end with unended: allow',
      )
    return this.#withEos(marked)
  }

  /** Removes the duplicate BOS if a text begins with the one that the tokenizer adds. */
  #withoutDoubleBos(ids: number[]): number[] {
    const { bosId, addsBos } = this.tokenizer
    return addsBos && ids[0] === bosId && ids[1] === bosId ? ids.slice(1) : ids
  }

  /** Ends a document with a trained EOS, unless it already ends with one. */
  #withEos({ ids, inside }: MarkedIds): MarkedIds {
    const { eosId } = this.tokenizer
    if (eosId === undefined) return { ids, inside }
    const closed = ids.at(-1) === eosId ? ids : [...ids, eosId]
    const marks = new Uint8Array(closed.length)
    marks.set(inside)
    marks[closed.length - 1] = 1
    return { ids: closed, inside: marks }
  }
}

/**
 * The examples of one row, of which the first has the findings of all. If later ones are cut off wholly, the row counts
 * as truncated.
 */
function whole(
  examples: readonly (EncodedRow | DropReason)[],
  emptyTurns: number,
): (EncodedRow | DropReason)[] {
  const kept = examples.filter((example) => typeof example !== 'string')
  const [first, last] = [kept[0], kept.at(-1)]
  if (first === undefined || last === undefined) return examples.slice(0, 1)
  const truncated = last.truncated || kept.length < examples.length
  return kept.map((example) => ({
    ...example,
    truncated: example === last && truncated,
    emptyTurns: example === first ? emptyTurns : 0,
    specialTokens: example === first ? last.specialTokens : [],
  }))
}

/** The position in a marked text of position `place` in the text without marks. */
function markedPlace(text: string, place: number): number {
  let plain = 0
  let at = 0
  while (plain < place || text[at] === ESCAPE_MARK) if (text[at++] !== ESCAPE_MARK) plain++
  return at
}
