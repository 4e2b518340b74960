/** Evaluations shared by ranks, and the facts that ranks must agree on to compute the same results. */
import { resolve } from 'node:path'
import type { ActiveAdapter, BaseModel } from '../../base/base.js'
import { addon } from '../../native/addon.js'
import { translatedAsync } from '../../native/errors.js'
import { describeBoth } from '../../weights/quantization.js'
import { canonical } from '../checkpoints/run-identity.js'
import type { Ranks } from '../processes/processes.js'
import { packageVersion } from '../records/run-record.js'
import type { EvaluateControl } from '../steps/evaluate.js'

/** The program version and the kind of processor of a rank. */
export function programFacts({ device }: BaseModel): Record<string, string> {
  return {
    'version of lowrank': packageVersion(),
    'instruction set': addon().cpu().isa,
    device: device === 'cpu' ? 'cpu' : 'cuda',
  }
}

/**
 * Rejects ranks with another output folder, of which only the first rank's would be written.
 * @throws {ConfigError} naming the first difference
 */
export async function agreeOnFolder(ranks: Ranks, outputDir: string | undefined): Promise<void> {
  await ranks.agree('output folder', { output_dir: outputDir === undefined ? 'none' : resolve(outputDir) })
}

/**
 * Rejects ranks that would evaluate differently.
 * @param data hash of the rows
 * @throws {ConfigError} naming the first difference
 */
export async function agreeToEvaluate(
  ranks: Ranks,
  base: BaseModel,
  adapters: readonly ActiveAdapter[],
  data: string,
  options: object,
): Promise<void> {
  const own = async ({ state, weight, rank }: ActiveAdapter) => {
    const digest = await translatedAsync(() => state.native.digest().promise)
    return `${digest}, weight ${weight}, rank ${rank}`
  }
  await ranks.agree('start of an evaluation', {
    ...programFacts(base),
    'base model': base.files.fingerprint,
    'evaluation data': data,
    quantization: describeBoth(base),
    precision: base.precision,
    options: canonical(options),
    adapters: (await Promise.all(adapters.map(own))).join('; '),
  })
}

/** Distributes an evaluation over ranks, which stop together. */
export function sharedWith(
  ranks: Ranks,
  { signal, onProgress }: Omit<EvaluateControl, 'ranks'>,
): EvaluateControl {
  return { signal: ranks.joint(signal), onProgress, ranks }
}
