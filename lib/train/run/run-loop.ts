/**
 * The loop of a run over its parts: between steps it evaluates, saves checkpoints, and records events. Leaving the loop or
 * aborting ends the run at a step boundary.
 */
import { dirname } from 'node:path'
import { DataError, DivergedError, RanksError } from '../../core/errors.js'
import { makeFolder } from '../../io/atomic-folder.js'
import { addon, type NativeSession } from '../../native/addon.js'
import { closeSession, openSession } from '../../native/session.js'
import { inFolder } from '../../planning/plans.js'
import { keyOf } from '../checkpoints/run-identity.js'
import { scratchFolder } from '../folders/output-folder.js'
import { Recorder, startEvent } from '../records/run-record.js'
import { bestReport, isDue } from '../steps/best.js'
import type { DoneEvent, PlanEvent, StartEvent, TrainEvent, TrainStep } from '../steps/events.js'
import { noteCard, noteFormat, saveResult } from './run-adapter.js'
import type { RunParts } from './run-parts.js'
import type { Begun } from './run-start.js'

export class RunLoop {
  /** The last completed step. */
  latest: TrainStep | undefined
  readonly #parts: RunParts

  constructor(parts: RunParts) {
    this.#parts = parts
  }

  async *events(): AsyncGenerator<TrainEvent, void, void> {
    const { setup, control, start, recorder } = this.#parts
    const { signal, ranks } = setup
    try {
      const begun = await start.begin()
      await recorder.open(begun.state, start.resumed !== null)
      for await (const event of this.#all(begun)) yield await recorder.emit(event)
    } catch (caught) {
      if (control.isStop(caught)) return
      const together = signal?.aborted && caught === signal.reason
      const error = together ? caught : await ranks.failed(caught)
      if (!signal?.aborted) await recorder.fail(error, this.latest?.step ?? start.resumed?.step ?? 0)
      throw error
    } finally {
      control.end()
      await start.close()
      await recorder.close()
      start.release()
    }
  }

  async *#all(begun: Begun): AsyncGenerator<TrainEvent, void, void> {
    const { setup, control, start } = this.#parts
    const { base, adapter, rateSearch, use } = setup
    const { state, data } = begun
    control.begin({ base, adapter, state, use })
    const event = startEvent(setup, state, data, start.resumed !== null)
    await noteCard(setup, event, state)
    yield event
    if (rateSearch !== undefined) yield { event: 'rate', ...rateSearch }
    yield this.#plan(begun)
    yield* this.#inSession(begun, event)
  }

  async *#inSession(begun: Begun, event: StartEvent): AsyncGenerator<TrainEvent, void, void> {
    const { setup, place, control, start } = this.#parts
    const { base, adapter, options, folders, plans, pipe, use } = setup
    const { state, steps, identity, evaluation, kept } = begun
    const scratch = scratchFolder(folders)
    if (options.activationOffloading) await makeFolder(scratch)
    const session = await use(() => openSession(base.native, [adapter.native], inFolder(plans, scratch)))
    pipe?.open(session)
    try {
      const resumedFrom = start.resumed === null ? null : dirname(start.resumed.path)
      const about = { key: keyOf(identity), runDir: folders?.runDir ?? null, resumedFrom }
      await use(async () => steps.prepare?.(session, { ...about, control: evaluation.control }))
      yield* this.#steps(session, begun)
      yield* savingOnFailure(kept, () => control.alone(() => kept.loadBest()))
      this.#noteFormat(begun)
      await noteCard(setup, event, state)
      await saveResult(setup, place)
      yield this.#done(begun)
    } finally {
      await closeSession(session, plans)
    }
  }

  async *#steps(session: NativeSession, begun: Begun): AsyncGenerator<TrainEvent, void, void> {
    const { setup, control, agreement, recorder } = this.#parts
    const { options, signal } = setup
    const { state, steps, evaluation, kept } = begun
    const began = state.step
    const changes = new Recorder(steps)
    yield* changes.after(began, true)
    /** A saved checkpoint whose event has not been emitted yet. */
    let untold: TrainEvent | undefined
    for (;;) {
      yield* control.waits(state.step)
      yield* await evaluation.run(session, state, steps)
      if (untold) yield untold
      untold = undefined
      if (state.step >= state.totalSteps || evaluation.stops(state) || signal?.aborted) break
      this.#noteFormat(begun)
      const best = await kept.saveBest()
      if (best) yield best
      if (steps.privacy) await kept.saveStart()
      yield* control.waits(state.step)
      if (signal?.aborted) break
      const step = yield* this.#step(session, begun, began)
      if (step === undefined) break
      this.latest = step
      this.#noteFormat(begun)
      const due = isDue(options.saveSteps, state.step)
      await agreement.afterStep(state, due)
      // Save before yielding the step, so that a caller who leaves the loop here keeps the checkpoint.
      if (due) {
        await recorder.covered(step)
        untold = await kept.save()
      }
      yield step
      yield* changes.after(state.step)
    }
    if (signal?.aborted) yield* this.#stopped(begun, began)
  }

  /**
   * Makes a step. A failure that leaves the adapter as it was saves a checkpoint.
   * @param began the step that this run began after
   * @returns undefined if the run is aborted meanwhile
   */
  async *#step(
    session: NativeSession,
    { state, steps, kept }: Begun,
    began: number,
  ): AsyncGenerator<TrainEvent, TrainStep | undefined, void> {
    const { setup, control } = this.#parts
    const { options, signal, use } = setup
    try {
      return await control.alone(() => use(() => steps.next(session)))
    } catch (error) {
      const diverged = error instanceof DivergedError
      // The adapter is between two steps, so it must not be saved in a checkpoint, whatever else ends the run.
      const torn = diverged
        ? error.details.lastGoodStep === null
        : options.optimizerInBackward && error instanceof RanksError
      if (signal?.aborted && !torn) return undefined
      const whole = (diverged && !torn) || error instanceof DataError || error instanceof RanksError
      const event = whole && state.step > began ? await kept.save() : undefined
      if (event) yield event
      throw error
    }
  }

  /** Saves a checkpoint to resume from, and ends the run. */
  async *#stopped({ state, kept }: Begun, began: number): AsyncGenerator<TrainEvent, never, void> {
    const { setup, start } = this.#parts
    const event = state.step > began ? await kept.save() : undefined
    if (event) yield event
    const path = kept.paths.at(-1) ?? start.resumed?.path ?? null
    yield { event: 'stopped', step: state.step, path }
    throw setup.signal?.reason
  }

  #noteFormat({ data }: Begun): void {
    noteFormat(this.#parts.setup, data.format())
  }

  #plan({ steps }: Begun): PlanEvent {
    const { memory, setup } = this.#parts
    const { peakBytes, pinnedBytes, rows } = memory
    return {
      event: 'plan',
      peakBytes,
      ...(pinnedBytes > 0 ? { pinnedBytes } : {}),
      runtimeBytes: setup.base.runtimeBytes,
      rows,
      ...(steps.privacy ? { privacy: steps.privacy } : {}),
    }
  }

  #done({ state, steps }: Begun): DoneEvent {
    const { options, folders } = this.#parts.setup
    const { step, totals, totalSteps, evaluations } = state
    const best = bestReport(evaluations, options, step)
    return {
      event: 'done',
      outputDir: folders?.outputDir ?? null,
      trainLoss: totals.lossSum / totals.supervisedTokens,
      steps: step,
      ...(step < totalSteps ? { stoppedEarly: true as const } : {}),
      ...(best ? { best } : {}),
      peakRssBytes: addon().residentBytes().peak,
      tokensPerSecond: totals.tokens / totals.seconds,
      ...(steps.privacy ? { privacy: steps.privacy } : {}),
    }
  }
}

/** Saves a checkpoint if work fails that the run can repeat. */
async function* savingOnFailure(
  kept: Begun['kept'],
  work: () => Promise<void>,
): AsyncGenerator<TrainEvent, void, void> {
  try {
    await work()
  } catch (error) {
    const event = await kept.save()
    if (event) yield event
    throw error
  }
}
