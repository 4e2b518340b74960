/** The adapter of a run: what it tells of the run, and its file at the end. */
import { saveAdapter } from '../../base/base.js'
import type { PromptFormat } from '../../formats/prompt-format.js'
import { rulesOf } from '../../strategies/index.js'
import { savedBy } from '../checkpoints/gathered.js'
import type { RunFolders } from '../folders/output-folder.js'
import { cardText } from '../records/model-card.js'
import type { StartEvent } from '../steps/events.js'
import type { TrainingState } from '../steps/step.js'
import type { RunSetup } from './run-setup.js'

/**
 * Stores the run's prompt format in the adapter. A private run omits the system prompt, which is part of the
 * data and not protected by noise.
 * @param format null before the first row is read
 */
export function noteFormat({ adapter }: RunSetup, format: PromptFormat | null): void {
  if (format === null) return
  const { strategy } = adapter.description
  adapter.format = rulesOf(strategy).privacy?.(strategy) ? { ...format, system: null } : format
}

/** Stores the model card in the adapter, which is saved with it. */
export async function noteCard(
  { base, adapter, options }: RunSetup,
  start: StartEvent,
  { step: steps, evaluations }: TrainingState,
): Promise<void> {
  adapter.card = await cardText(base, adapter, { start, options, steps, evaluations })
}

/** @param place folders of the run, which rank 0 writes to; null saves nothing */
export async function saveResult(setup: RunSetup, place: RunFolders | null): Promise<void> {
  const { base, adapter, folders, pipe } = setup
  const own = pipe === undefined ? folders : place
  if (own === null) return
  const { card } = adapter
  const more = card === null ? {} : { card }
  await savedBy(setup, (whole) => saveAdapter(own.outputDir, base, whole, more))
}
