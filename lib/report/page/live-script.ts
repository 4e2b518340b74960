/**
 * Script of a live page: follows the log of the run by server-sent events, keeps the bar and the charts up to date, and
 * sends what its buttons and its box for questions say. It keeps nothing: opened again, it shows the whole run.
 */
import { formatNumber, formatSeconds } from '../chart/index.js'
import type { AskLine, LiveAction } from '../live/protocol.js'
import { LiveState, type LogLine, type Message, PHASES } from '../live/state.js'
import { mountLoss } from './loss.js'

/** At most four drawings a second. */
const DRAW_MS = 250

const token = new URLSearchParams(location.search).get('token') ?? ''
const { name } = JSON.parse(find('data').textContent ?? '{}') as { name: string }
let state = new LiveState()
const charts = mountLoss(find('loss'))
let pending: LiveAction | undefined
let asking: AbortController | undefined
let dirty = true
let drawn = 0

function find<E extends HTMLElement = HTMLElement>(id: string): E {
  return document.getElementById(id) as E
}

function make(tag: string, className: string, text: string): HTMLElement {
  const element = document.createElement(tag)
  if (className !== '') element.className = className
  element.textContent = text
  return element
}

function url(path: string): string {
  return `${path}?token=${encodeURIComponent(token)}`
}

function connect(): void {
  const source = new EventSource(url('events'))
  const heard = (change: () => void) => {
    state.connected = true
    change()
    dirty = true
  }
  source.onopen = () => heard(() => undefined)
  source.onerror = () => {
    state.connected = false
    dirty = true
    // A browser gives up where something else answers in place of the server, or it told to go away.
    if (source.readyState === EventSource.CLOSED && !state.over) setTimeout(connect, 1000)
    else if (state.over) source.close()
  }
  source.addEventListener('status', ({ data }) =>
    heard(() => {
      state.status = JSON.parse(data)
    }),
  )
  source.addEventListener('reset', () =>
    heard(() => {
      state = Object.assign(new LiveState(), { status: state.status })
      charts.reset()
      pending = undefined
    }),
  )
  source.addEventListener('lines', ({ data }) =>
    heard(() => {
      for (const text of String(data).split('\n')) {
        const line = JSON.parse(text) as LogLine
        state.take(line)
        charts.take(line)
        if (line.event !== 'step' || pending !== 'stop') pending = undefined
      }
    }),
  )
}

async function post(path: string, body: object, signal?: AbortSignal): Promise<Response> {
  const headers = { 'Content-Type': 'application/json' }
  const init = { method: 'POST', headers, body: JSON.stringify(body), ...(signal ? { signal } : {}) }
  return fetch(url(path), init)
}

async function act(action: LiveAction): Promise<void> {
  pending = action
  draw()
  const response = await post('act', { action }).catch(() => undefined)
  if (response?.ok) return
  pending = undefined
  dirty = true
}

function draw(): void {
  const { phase } = state
  const paused = phase === 'paused'
  find('state').className = `state ${phase}`
  setText('state', pending === 'stop' ? 'Stopping' : pending === 'pause' ? 'Pausing' : PHASES[phase])
  drawNumbers()
  const progress = find<HTMLProgressElement>('progress')
  progress.value = state.step
  progress.max = Math.max(1, state.totalSteps)
  progress.className = phase
  find('acts').hidden = !state.status.reachable || state.over || phase === 'interrupted'
  setText('pause', paused ? 'Resume' : 'Pause')
  find<HTMLButtonElement>('pause').disabled = !state.controlled || pending !== undefined
  find<HTMLButtonElement>('stop').disabled = !state.controlled || pending === 'stop'
  if (!asking) find('ask').hidden = !state.status.reachable || state.over || phase === 'interrupted'
  find<HTMLButtonElement>('send').disabled = asking === undefined && !state.controlled
  setText('send', asking ? 'Stop' : 'Ask')
  drawMessage(state.message())
  document.title = state.title(name)
  charts.draw(state.totalSteps)
}

/** Text that stays as it is is left alone, so that it is not read out again. */
function setText(id: string, text: string): void {
  const element = find(id)
  if (element.textContent !== text) element.textContent = text
}

function drawNumbers(): void {
  const parts: [value: string, before: string, after: string][] = []
  const left = state.phase === 'training' ? state.secondsLeft : undefined
  if (state.totalSteps > 0) parts.push([String(state.step), 'step ', ` of ${state.totalSteps}`])
  if (left !== undefined) parts.push([formatSeconds(left), '', ' left'])
  if (state.loss !== undefined) parts.push([formatNumber(state.loss), 'loss ', ''])
  if (state.heldOut !== undefined) parts.push([formatNumber(state.heldOut), 'held out ', ''])
  if (state.tokensPerSecond !== undefined) parts.push([formatNumber(state.tokensPerSecond), '', ' tokens/s'])
  find('numbers').replaceChildren(
    ...parts.map(([value, before, after]) => {
      const part = make('span', '', before)
      part.append(make('b', '', value), after)
      return part
    }),
  )
}

let shown = ''

function drawMessage(message: Message | undefined): void {
  const text = JSON.stringify(message ?? null)
  if (text === shown) return
  shown = text
  const place = find('message')
  if (message === undefined) {
    place.replaceChildren()
    return
  }
  const note = make('p', `note ${message.tone}`, '')
  note.append(make('b', '', message.title), ` ${message.text}`)
  if (message.command !== undefined) note.append(' ', make('code', '', message.command))
  place.replaceChildren(note)
}

async function ask(): Promise<void> {
  const prompt = find<HTMLTextAreaElement>('prompt').value.trim()
  if (prompt === '' || asking) return
  asking = new AbortController()
  setText('asking', state.phase === 'paused' ? 'Answering …' : 'Waiting for the end of the step …')
  draw()
  const card = make('article', 'answer', '')
  const label = make('h3', '', '')
  const answer = make('p', 'text', '')
  card.append(make('p', 'question', prompt), label, answer)
  try {
    const response = await post('ask', { prompt }, asking.signal)
    if (!response.ok || response.body === null) throw new Error((await response.text()).trim())
    find('answers').prepend(card)
    for await (const line of linesOf(response.body)) {
      if (line.event === 'error') throw new Error(line.message)
      if (line.event === 'text') {
        setText('asking', 'Answering …')
        answer.append(line.text)
      } else label.textContent = line.step === 0 ? 'Before the first step' : `After step ${line.step}`
      if (line.event === 'answer' && line.finish_reason === 'length') answer.append('…')
    }
    if (answer.textContent === '') answer.append(make('i', '', 'The answer is empty.'))
    setText('asking', '')
  } catch (error) {
    const why = (error as Error).message || 'the run cannot be reached.'
    setText('asking', asking.signal.aborted ? 'No longer asked.' : `No answer: ${why}`)
    if (answer.textContent === '') card.remove()
  }
  asking = undefined
  draw()
}

async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<AskLine, void, void> {
  const reader = body
    .pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)
    .getReader()
  let rest = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    const lines = (rest + value).split('\n')
    rest = lines.pop() as string
    for (const line of lines) yield JSON.parse(line) as AskLine
  }
}

function wake(): void {
  if (!dirty || document.hidden || performance.now() - drawn < DRAW_MS) return
  dirty = false
  drawn = performance.now()
  requestAnimationFrame(draw)
}

find('pause').addEventListener('click', () => act(state.phase === 'paused' ? 'resume' : 'pause'))
find('stop').addEventListener('click', () => {
  const dialog = find<HTMLDialogElement>('sure')
  dialog.returnValue = ''
  dialog.showModal()
})
find('sure').addEventListener('close', () => {
  if (find<HTMLDialogElement>('sure').returnValue === 'stop') act('stop')
})
find('ask-form').addEventListener('submit', (event) => {
  event.preventDefault()
  if (asking) asking.abort()
  else ask()
})
find('prompt').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
  event.preventDefault()
  ask()
})
setInterval(wake, DRAW_MS / 2)
document.addEventListener('visibilitychange', wake)
draw()
connect()
