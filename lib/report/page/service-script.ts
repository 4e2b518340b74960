/**
 * Script of a service's page: lists jobs and models, follows the events of jobs for their curves, and asks models. It
 * keeps the key in the session of its tab alone.
 */
import { MOST_DRAWN, runsCharts } from '../runs-charts.js'
import { jobsHtml, modelsHtml } from '../service-content.js'
import {
  addEvent,
  emptyCurves,
  isOver,
  type JobCurves,
  listedJob,
  type ServiceEvent,
  type ServiceJob,
} from '../service-data.js'
import { find, setText } from './dom.js'
import { morph } from './morph.js'
import { mountAsk, offer } from './service-ask.js'
import { eventsOf, forgetKey, hasKey, listOf, Refused, setKey, takeKey } from './service-client.js'

const LOOK_AGAIN_MS = 2000
const DRAW_MS = 500
const JOBS = 'v1/fine_tuning/jobs'

/** Curves of a job, and the last event that they have. */
interface Followed {
  curves: JobCurves
  last: string | undefined
  /** True while its events are read, and once all were. */
  busy: boolean
  complete: boolean
}

const followed = new Map<string, Followed>()
let jobs: ServiceJob[] = []
let models: string[] = []
let isDue = false
let width = 0

function replace(id: string, html: string): void {
  const element = document.createElement('div')
  // The HTML comes from functions that escape the names of models and jobs.
  element.innerHTML = html
  element.className = find(id).className
  morph(find(id), element)
}

async function look(): Promise<void> {
  if (!hasKey()) return askForKey('Enter the API key, or open the address that the server printed.')
  try {
    const listed = await Promise.all([
      listOf<ServiceJob>(`${JOBS}?limit=${MOST_DRAWN}`),
      listOf<{ id: string }>('v1/models'),
    ])
    jobs = listed[0]
    models = listed[1].map(({ id }) => id)
    find('key-form').hidden = true
    find('main').hidden = false
    setText('state', headline())
    offer(models)
    isDue = true
    followNext()
  } catch (error) {
    if (error instanceof Refused && error.status === 401) {
      forgetKey()
      return askForKey('The API key is wrong. The server printed it when it started.')
    }
    setText('state', error instanceof Refused ? error.message : 'The server cannot be reached.')
  }
}

function askForKey(why: string): void {
  setText('state', why)
  find('key-form').hidden = false
  find('main').hidden = true
}

function headline(): string {
  const going = jobs.filter((job) => !isOver(job)).length
  const counted = (count: number, thing: string) => `${count} ${thing}${count === 1 ? '' : 's'}`
  return `${counted(models.length, 'model')}, and ${counted(jobs.length, 'job')}${going > 0 ? `, of which ${going} not over` : ''}.`
}

/** Follows jobs that run or are over, one that is over at a time, since a browser has few connections to a server. */
function followNext(): void {
  const isFollowable = (job: ServiceJob) => {
    const one = followed.get(job.id)
    return !one?.busy && !one?.complete
  }
  const running = jobs.filter(({ lowrank }) => lowrank.state === 'running').filter(isFollowable)
  for (const job of running) void follow(job)
  const over = jobs.filter(isOver)
  if (over.some(({ id }) => followed.get(id)?.busy)) return
  const next = over.find(isFollowable)
  if (next !== undefined) void follow(next).then(followNext)
}

async function follow({ id }: ServiceJob): Promise<void> {
  const one = followed.get(id) ?? { curves: emptyCurves(), last: undefined, busy: false, complete: false }
  followed.set(id, one)
  one.busy = true
  const after = one.last === undefined ? '' : `&after=${encodeURIComponent(one.last)}`
  try {
    const path = `${JOBS}/${encodeURIComponent(id)}/events?stream=true${after}`
    for await (const event of eventsOf<ServiceEvent>(path, new AbortController().signal)) {
      one.last = event.id
      addEvent(one.curves, event)
      isDue = true
    }
    one.complete = true
  } catch {
    // Looked at again with the list.
  }
  one.busy = false
}

function draw(): void {
  const room = document.body.clientWidth
  if (document.hidden || (!isDue && room === width)) return
  isDue = false
  width = room
  const runs = jobs.map((job) => listedJob(job, followed.get(job.id)?.curves ?? emptyCurves()))
  replace('jobs-body', jobsHtml(jobs, runs))
  replace('models-body', modelsHtml(models))
  const charts = runsCharts(runs)
  for (const place of document.querySelectorAll<HTMLElement>('.plot[data-chart]'))
    place.innerHTML = charts[place.dataset.chart ?? '']?.draw(place.clientWidth) ?? ''
}

takeKey()
window.addEventListener('hashchange', () => {
  takeKey()
  void look()
})
find('key-form').addEventListener('submit', (event) => {
  event.preventDefault()
  setKey(find<HTMLInputElement>('key').value.trim())
  find<HTMLInputElement>('key').value = ''
  void look()
})
mountAsk()
void look()
setInterval(() => {
  if (!document.hidden) void look()
}, LOOK_AGAIN_MS)
setInterval(draw, DRAW_MS)
