/** Writing a model with its adapters, from the check of the options to the check of what was written. */
import { existsSync } from 'node:fs'
import { ConfigError } from '../errors.js'
import { parseOptions } from '../schema.js'
import { dataset } from '../train/data.js'
import { type Drift, measureDrift, type Subject, sampleSequences } from './drift.js'
import { writeMerged } from './merge.js'
import { type SaveOptions, saveSchema, type WriteProgress, type Written } from './options.js'
import { outputTaken } from './weights.js'

/** What is told and minded while a model is written. */
type Control = Pick<SaveOptions, 'checkDataset' | 'onProgress' | 'signal'>

/**
 * Writes a Hugging Face folder.
 * @param name of the function that the options were given to, for messages
 */
export async function saveModel(
  subject: Subject,
  path: string,
  options: SaveOptions,
  name: string,
): Promise<Written> {
  const { checkDataset, onProgress, signal, ...rest } = options
  const given = parseOptions(saveSchema, rest, { name, spelling: 'camel' })
  refuseTaken(path, given.force)
  if (given.onto === 'trained') refuseOtherBase(subject)
  const control: Control = {
    ...(checkDataset === undefined ? {} : { checkDataset }),
    ...(onProgress ? { onProgress } : {}),
    ...(signal ? { signal } : {}),
  }
  const { dtype, onto } = given
  return writeChecked(subject, path, given.check, control, () =>
    writeMerged(
      path,
      subject,
      { dtype, onto },
      {
        ...(given.maxShardBytes === undefined ? {} : { maxShardBytes: given.maxShardBytes }),
        ...(signal ? { signal } : {}),
        ...(onProgress ? { onProgress: reportWrite(onProgress) } : {}),
      },
    ),
  )
}

/** @throws {ConfigError} when something is there and `force` is not given */
export function refuseTaken(path: string, force: boolean): void {
  if (!force && existsSync(path)) throw outputTaken(path)
}

/** The same numbers added to other weights are another model, however well the shapes agree. */
function refuseOtherBase({ base, adapters }: Subject): void {
  for (const { state } of adapters) {
    if (state.trainedOn === null || state.trainedOn === base.files.fingerprint) continue
    throw new ConfigError(
      `an adapter was trained on other files than those of ${base.name}; load the model that it was trained on, or say onto: original if ${base.name} holds the same model in another form.`,
      { model: base.name, trainedOn: state.trainedOn, fingerprint: base.files.fingerprint },
    )
  }
}

function reportWrite(tell: (progress: WriteProgress) => void) {
  return ({ writtenBytes, totalBytes }: { writtenBytes: number; totalBytes: number }) =>
    tell({ phase: 'write', doneBytes: writtenBytes, totalBytes })
}

/** Takes the sample first, since what cannot be checked should be known before hours of writing. */
async function writeChecked(
  subject: Subject,
  path: string,
  check: boolean,
  control: Control,
  write: () => Promise<string[]>,
): Promise<Written> {
  const { checkDataset, signal } = control
  const data = typeof checkDataset === 'string' ? dataset(checkDataset) : checkDataset
  const sequences = check ? await sampleSequences(subject.base, data, signal) : []
  const work = async () => {
    const files = await write()
    return { output: path, files, check: check ? await readBack(subject, path, sequences, control) : null }
  }
  // An adapter that is being trained stands still meanwhile, so that everything is of one step.
  const still = subject.adapters.reduce(
    (inner, { state }) =>
      () =>
        state.turns.run(inner),
    work,
  )
  return subject.base.lifetime.use(still)
}

async function readBack(
  subject: Subject,
  path: string,
  sequences: readonly Int32Array[],
  { onProgress, signal }: Control,
): Promise<Drift> {
  const written = await subject.base.reopen(path, {
    precision: 'fp32',
    ...(signal ? { signal } : {}),
    ...(onProgress
      ? {
          onProgress: ({ loadedBytes, totalBytes }) =>
            onProgress({ phase: 'check', doneBytes: loadedBytes, totalBytes }),
        }
      : {}),
  })
  try {
    return await measureDrift(subject, { base: written, adapters: [] }, sequences, signal)
  } finally {
    await written.lifetime.dispose(() => written.native.dispose())
  }
}
