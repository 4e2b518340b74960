/**
 * Script of a live page: follows the run's log by server-sent events, updates the bar and the charts, and sends the
 * actions of its buttons and question box. It stores nothing: when reopened, it shows the whole run.
 */
import type { MetricsLine } from '../../train/records/event-schemas.js'
import { formatNumber, formatSeconds, isNumber } from '../chart/index.js'
import { liveSections } from '../live/content.js'
import type { AskLine, LiveAction } from '../live/protocol.js'
import {
  isControlled,
  isOver,
  type LiveRun,
  type Message,
  messageOf,
  PHASES,
  phaseOf,
  progressOf,
  secondsLeft,
  speedOf,
  titleOf,
} from '../live/state.js'
import { addLine, emptyRun, type PackedRun, unpackRun } from '../run-data.js'
import { type RunNames, runHead } from '../run-sections.js'
import { lastLoss } from '../run-words.js'
import { askOnEnter, find, make, partsOf, setText } from './dom.js'
import { morph } from './morph.js'
import { mountRun } from './run-view.js'

/** At most four redraws per second. */
const DRAW_MS = 250

const token = new URLSearchParams(location.search).get('token') ?? ''
const data = JSON.parse(find('data').textContent ?? '{}') as Data
const { names } = data
const run = unpackRun(data.run)
const live: LiveRun = { run, connected: true, status: { alive: true, reachable: false } }
const charts = mountRun(document.body, run)
let pending: LiveAction | undefined
let asking: AbortController | undefined
/** What the next redraw must update: nothing, only the numbers that change every step, or everything. */
let due: 'nothing' | 'numbers' | 'all' = 'numbers'
let drawn = 0

/** The run as recorded when the page was created. */
interface Data {
  names: RunNames
  run: PackedRun
  /** Position in the log. */
  position: string
}

function url(path: string, more = ''): string {
  return `${path}?token=${encodeURIComponent(token)}${more}`
}

function connect(from: string): void {
  const source = new EventSource(url('events', `&from=${encodeURIComponent(from)}`))
  let position = from
  source.onopen = () => {
    live.connected = true
    mark('numbers')
  }
  source.onerror = () => {
    live.connected = false
    mark('numbers')
    // The server has stopped with the run, or the page is outdated; in these cases browsers do not reconnect on their
    // own.
    if (isOver(run)) source.close()
    else if (source.readyState === EventSource.CLOSED) setTimeout(() => connect(position), 1000)
  }
  source.addEventListener('status', ({ data }) => {
    live.status = JSON.parse(data)
    mark('numbers')
  })
  source.addEventListener('reset', () => {
    Object.assign(run, emptyRun())
    pending = undefined
    mark('all')
  })
  source.addEventListener('lines', ({ data, lastEventId }) => {
    position = lastEventId
    for (const text of String(data).split('\n')) take(JSON.parse(text) as MetricsLine)
  })
}

function take(line: MetricsLine): void {
  // A curve first appears at two steps.
  mark(line.event === 'step' && run.columns.step.length > 2 ? 'numbers' : 'all')
  addLine(run, line)
  if (line.event !== 'step') pending = undefined
}

function mark(what: 'numbers' | 'all'): void {
  if (due !== 'all') due = what
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
  mark('numbers')
}

function draw(): void {
  if (due !== 'nothing') morph(find('head'), fragment(runHead(run, names)))
  if (due === 'all') {
    morph(find('main'), fragment(liveSections(run, names)))
    for (const part of document.querySelectorAll<HTMLElement>('.script')) part.hidden = false
  }
  due = 'nothing'
  charts.draw()
  drawBar()
  const { reachable } = live.status
  const gone = isOver(run) || phaseOf(live) === 'interrupted'
  find('acts').hidden = !reachable || gone
  find('ask').hidden = (!reachable || gone) && find('answers').childElementCount === 0
  find('ask-form').hidden = !reachable || gone
  find<HTMLButtonElement>('send').disabled = asking === undefined && !isControlled(live)
  setText('send', asking ? 'Stop' : 'Ask')
}

function drawBar(): void {
  const phase = phaseOf(live)
  find('state').className = `state ${phase}`
  setText('state', pending === 'stop' ? 'Stopping' : pending === 'pause' ? 'Pausing' : PHASES[phase])
  drawNumbers(phase === 'training')
  const { step, totalSteps } = progressOf(run)
  const progress = find<HTMLProgressElement>('progress')
  progress.value = step
  progress.max = Math.max(1, totalSteps)
  progress.className = phase
  setText('pause', phase === 'paused' ? 'Resume' : 'Pause')
  find<HTMLButtonElement>('pause').disabled = !isControlled(live) || pending !== undefined
  find<HTMLButtonElement>('stop').disabled = !isControlled(live) || pending === 'stop'
  drawMessage(messageOf(live))
  document.title = titleOf(live, names.name)
}

function fragment(html: string): HTMLElement {
  const element = document.createElement('div')
  // The HTML comes from the report's functions, which escape text from models and files.
  element.innerHTML = html
  return element
}

function drawNumbers(training: boolean): void {
  const parts: [value: string, before: string, after: string][] = []
  const { step, totalSteps } = progressOf(run)
  const left = training ? secondsLeft(run) : undefined
  const [loss, heldOut, speed] = [lastLoss(run), run.evaluations.at(-1)?.loss, speedOf(run)]
  if (totalSteps > 0) parts.push([String(step), 'step ', ` of ${totalSteps}`])
  if (left !== undefined) parts.push([formatSeconds(left), '', ' left'])
  if (loss !== null) parts.push([formatNumber(loss), 'loss ', ''])
  if (isNumber(heldOut)) parts.push([formatNumber(heldOut), 'held out ', ''])
  if (speed !== undefined) parts.push([formatNumber(Math.round(speed)), '', ' tokens/s'])
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
  place.hidden = message === undefined
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
  setText('asking', phaseOf(live) === 'paused' ? 'Answering …' : 'Waiting for the end of the step …')
  draw()
  const card = make('article', 'answer', '')
  const label = make('h3', '', '')
  const answer = make('p', 'text', '')
  card.append(make('p', 'question', prompt), label, answer)
  try {
    const response = await post('ask', { prompt }, asking.signal)
    if (!response.ok || response.body === null) throw new Error((await response.text()).trim())
    find('answers').prepend(card)
    for await (const part of partsOf(response.body, '\n')) {
      const line = JSON.parse(part) as AskLine
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

function wake(): void {
  if (due === 'nothing' || document.hidden || performance.now() - drawn < DRAW_MS) return
  drawn = performance.now()
  requestAnimationFrame(draw)
}

find('pause').addEventListener('click', () => act(phaseOf(live) === 'paused' ? 'resume' : 'pause'))
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
askOnEnter(ask)
setInterval(wake, DRAW_MS / 2)
document.addEventListener('visibilitychange', wake)
draw()
connect(data.position)
