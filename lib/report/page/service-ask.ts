/** The box of a service's page that asks a model and another beside it, and shows both answers as they come. */
import { baseOf } from '../service-data.js'
import { askOnEnter, find, make } from './dom.js'
import { eventsOf } from './service-client.js'

const MOST_TOKENS = 512

let asking: AbortController | undefined
let known: readonly string[] = []

interface Chunk {
  choices: { delta: { content?: string | null }; finish_reason: string | null }[]
}

/** Offers these models; what is chosen stays chosen. */
export function offer(names: readonly string[]): void {
  if (names.join('\n') === known.join('\n')) return
  known = names
  const [model, beside] = [find<HTMLSelectElement>('model'), find<HTMLSelectElement>('beside')]
  const [chosen, other] = [model.value, beside.value]
  model.replaceChildren(...names.map((name) => new Option(name, name)))
  beside.replaceChildren(new Option('no other', ''), ...names.map((name) => new Option(name, name)))
  const tuned = names.find((name) => baseOf(name) !== undefined)
  model.value = names.includes(chosen) ? chosen : (tuned ?? names[0] ?? '')
  if (names.includes(chosen)) beside.value = names.includes(other) ? other : ''
  else chooseBase()
}

function chooseBase(): void {
  const base = baseOf(find<HTMLSelectElement>('model').value)
  find<HTMLSelectElement>('beside').value = base !== undefined && known.includes(base) ? base : ''
}

async function ask(): Promise<void> {
  const prompt = find<HTMLTextAreaElement>('prompt').value.trim()
  if (prompt === '' || asking) return
  asking = new AbortController()
  const { signal } = asking
  const names = [find<HTMLSelectElement>('model').value, find<HTMLSelectElement>('beside').value]
  const card = make('article', 'answer', '')
  const sides = make('div', 'sides', '')
  card.append(make('p', 'question', prompt), sides)
  find('answers').prepend(card)
  find('send').textContent = 'Stop'
  find('asking').textContent = 'Answering …'
  const asked = names.filter((name, at) => name !== '' && names.indexOf(name) === at)
  await Promise.all(asked.map((name) => answered(name, prompt, sides, signal)))
  find('asking').textContent = signal.aborted ? 'Stopped.' : 'Answered.'
  find('send').textContent = 'Ask'
  asking = undefined
}

async function answered(
  model: string,
  prompt: string,
  place: HTMLElement,
  signal: AbortSignal,
): Promise<void> {
  const side = make('div', '', '')
  const text = make('p', 'text', '')
  side.append(make('h3', '', model), text)
  place.append(side)
  const messages = [{ role: 'user', content: prompt }]
  const body = { model, messages, stream: true, temperature: 0, max_completion_tokens: MOST_TOKENS }
  try {
    for await (const { choices } of eventsOf<Chunk>('v1/chat/completions', signal, body)) {
      text.append(choices[0]?.delta.content ?? '')
      if (choices[0]?.finish_reason === 'length') text.append('…')
    }
    if (text.textContent === '') text.append(make('i', '', 'The answer is empty.'))
  } catch (error) {
    if (!signal.aborted) side.append(make('p', 'note bad', `No answer: ${(error as Error).message}`))
  }
}

/** Connects the box. */
export function mountAsk(): void {
  find('model').addEventListener('change', chooseBase)
  find('ask-form').addEventListener('submit', (event) => {
    event.preventDefault()
    if (asking) asking.abort()
    else ask()
  })
  askOnEnter(ask)
}
