/** Messages between the server of a live page and the page. No imports, since both sides use it. */

export const ACTIONS = ['pause', 'resume', 'stop'] as const
export type LiveAction = (typeof ACTIONS)[number]

/** State of a run that is not in its log. */
export interface RunStatus {
  /** True while a process is working on the run. */
  alive: boolean
  /** True if the page can act on it. */
  reachable: boolean
}

/** A line in the response to a question. */
export type AskLine =
  | { event: 'text'; text: string }
  | { event: 'answer'; step: number; finish_reason: 'stop' | 'length' }
  | { event: 'error'; code: string; message: string }
