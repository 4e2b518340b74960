import { fault } from './fault.mjs'

const resuming = (file, find, replace, what) =>
  fault(file, 'test/lib/train/run/run.test.ts', find, replace, what, {
    title: 'goes on bit for bit as one that never stopped',
  })
const checkpoint = (file, find, replace, what, title) =>
  fault(file, 'test/lib/train/checkpoints/checkpoint-file.test.ts', find, replace, what, { title })
const best = (file, find, replace, what, title) =>
  fault(file, 'test/lib/train/steps/best.test.ts', find, replace, what, { title })

export const checkpoints = [
  resuming(
    'lib/train/checkpoints/checkpoint-file.ts',
    'native.writeState(factor.name, name, bytes)',
    '',
    'moments of the optimizer are not restored',
  ),
  resuming(
    'lib/train/checkpoints/checkpoint-file.ts',
    'await restoreValues(path, base, adapter)\n  const',
    'const',
    'the adapter is not restored',
  ),
  resuming(
    'lib/train/checkpoints/state-file.ts',
    'cursor: { epoch, microBatch, ...',
    'cursor: { epoch: 0, microBatch: 0, ...',
    'the place in the data is not restored',
  ),
  resuming(
    'lib/train/objectives/gradient-steps.ts',
    '...{ seed: options.seed, step: index },',
    '...{ seed: options.seed, step: index - ((this as any).begun ??= this.#state.step) },',
    'dropout draws anew from where the run goes on',
  ),
  resuming(
    'lib/train/objectives/gradient-steps.ts',
    'scheduleAt(options, state.step, this.totalSteps)',
    'scheduleAt(options, state.step - ((this as any).begun ??= state.step), this.totalSteps)',
    'the schedule begins anew where the run goes on',
  ),
  resuming(
    'lib/train/objectives/gradient-steps.ts',
    '...updateOf(this.#setup, schedule, index),',
    '...updateOf(this.#setup, schedule, index - ((this as any).begun ??= this.#state.step)),',
    "Adam's correction begins anew where the run goes on",
  ),
  resuming(
    'lib/train/checkpoints/state-file.ts',
    'totals: { tokens, supervisedTokens, lossSum, seconds },',
    'totals: { tokens: 0, supervisedTokens: 0, lossSum: 0, seconds: 0 },',
    'sums over the run are not restored',
  ),
  fault(
    'lib/train/objectives/gradient-steps.ts',
    'test/lib/train/run/run.test.ts',
    'scheduleAt(options, state.step, this.totalSteps)',
    'scheduleAt(options, state.step + 1, this.totalSteps)',
    'the schedule is a step ahead',
    { title: 'a run of one step learns in it|learns, and its events' },
  ),
  checkpoint(
    'lib/io/sums.ts',
    'if ((await hashFile(await fileInside(folder, name))) !== sum)',
    'if (false)',
    'hashes are not compared',
    'with one bit of',
  ),
  checkpoint(
    'lib/io/sums.ts',
    'if (!sums.has(name)) return',
    'if (false) return',
    'files without a hash are taken',
    'whose hashes are missing, damaged or incomplete is refused',
  ),
  checkpoint(
    'lib/train/checkpoints/checkpoint-folder.ts',
    'sort((a, b) => b.step - a.step)',
    'sort((a, b) => Number(basename(a.path) < basename(b.path)) - 0.5)',
    'checkpoints are in the order of their names',
    'is chosen, listed and pruned by its step',
  ),
  checkpoint(
    'lib/train/checkpoints/checkpoint-folder.ts',
    'sort((a, b) => b.step - a.step)',
    "sort((a, b) => process.getBuiltinModule('fs').statSync(b.path).mtimeMs - process.getBuiltinModule('fs').statSync(a.path).mtimeMs)",
    'the newest checkpoint is that of the clock',
    'is chosen, listed and pruned by its step',
  ),
  checkpoint(
    'lib/train/checkpoints/checkpoint-folder.ts',
    'if (one.run !== undefined && one.run !== run) continue',
    '',
    'checkpoints of earlier runs are taken for the newest',
    'of an earlier run in the same folder',
  ),
  checkpoint(
    'lib/train/checkpoints/checkpoint-folder.ts',
    'if (damage === undefined) return {',
    'if (true) return {',
    'a damaged checkpoint is the newest',
    'with one bit of',
  ),
  fault(
    'lib/train/checkpoints/keeper.ts',
    'test/lib/train/run/run.test.ts',
    'new Set([path, ...',
    'new Set([...',
    'save_total_limit may remove what was just saved',
    { title: 'keeps what it saves' },
  ),
  best(
    'lib/train/checkpoints/keeper.ts',
    '...(best === undefined ? [] : [checkpointPath(folder, best)])',
    '',
    'save_total_limit removes the best',
    'ends with the best step',
  ),
  best(
    'lib/train/checkpoints/keeper.ts',
    'await restoreValues(path, base, adapter)',
    '',
    'the best step is not loaded',
    'ends with the best step',
  ),
  best(
    'lib/train/checkpoints/state-file.ts',
    'evaluations: evaluationsOf(about.evaluations),',
    'evaluations: [],',
    'evaluations are not restored',
    'ends early when it gets no better',
  ),
  fault(
    'lib/train/folders/run-lock.ts',
    'test/lib/train/folders/run-lock.test.ts',
    "const busy = lock === 'held' || (",
    'const busy = false && (',
    'the lock is ignored',
    { title: 'a folder has one run at a time' },
  ),
  fault(
    'lib/train/folders/run-lock.ts',
    'test/lib/train/folders/run-lock.test.ts',
    'if (isCurrent(descriptor, path)) unlinkSync(path)',
    '',
    'the lock stays when the run is over',
    { title: 'a folder has one run at a time' },
  ),
  checkpoint(
    'lib/train/checkpoints/checkpoint-folder.ts',
    'await checkOutput(checked, checkpoint, ways)',
    '',
    'the result of another run is replaced unasked',
    'is left alone by another run that is not forced',
  ),
  fault(
    'lib/train/checkpoints/run-identity.ts',
    'test/lib/train/run/run.test.ts',
    'if (there.data !== here.data) throw',
    'if (there.data === undefined) throw',
    'other data goes on',
    { title: 'with another adapter or base is refused' },
  ),
]
