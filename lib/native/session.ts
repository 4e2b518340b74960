/**
 * Opens and closes native sessions. LOWRANK_LOG is a comma-separated list of what to print to stderr for each session:
 * `graph`, `plan` (the steps), and `arena` (the location of every buffer) when it opens, and `times` (seconds by
 * kernel) when it closes.
 */
import { ConfigError } from '../core/errors.js'
import { addon, type NativeAdapter, type NativeModel, type NativeSession, type PlanOptions } from './addon.js'
import { warnOfRemarks } from './remarks.js'

const TOPICS = ['graph', 'plan', 'arena', 'times'] as const
type Topic = (typeof TOPICS)[number]

/** Topics in LOWRANK_LOG. */
function topics(): Topic[] {
  const asked = (process.env.LOWRANK_LOG ?? '').split(',').filter((name) => name !== '')
  const unknown = asked.find((name) => !TOPICS.includes(name as Topic))
  if (unknown !== undefined)
    throw new ConfigError(`LOWRANK_LOG has '${unknown}', expected some of ${TOPICS.join(', ')}.`, { unknown })
  return asked as Topic[]
}

function print(session: NativeSession, plan: string, topic: Topic): void {
  process.stderr.write(`--- ${topic} of plan '${plan}'\n${addon().dump(session, plan, topic)}`)
}

export async function openSession(
  model: NativeModel,
  adapters: NativeAdapter[],
  plans: Record<string, PlanOptions>,
  weights?: readonly number[],
  ranks?: readonly number[],
): Promise<NativeSession> {
  const asked = topics()
  const session = await addon().createSession(model, adapters, plans, weights, ranks).promise
  warnOfRemarks()
  for (const plan of Object.keys(plans))
    for (const topic of asked) if (topic !== 'times') print(session, plan, topic)
  return session
}

/** Prints the times of a session if requested, and frees it. */
export async function closeSession(
  session: NativeSession,
  plans: Record<string, PlanOptions>,
): Promise<void> {
  const [plan] = Object.keys(plans)
  if (plan !== undefined && topics().includes('times')) print(session, plan, 'times')
  await session.dispose()
}
