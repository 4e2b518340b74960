/** The training data of a config, read as its run would read it. */
import { withTemplateFile } from '../../data/template-file.js'
import { taskRules } from '../../tasks/index.js'
import { loadConfig } from '../../train/config/config.js'
import { withLabels } from '../../train/config/labels.js'
import { encodeOptions } from '../../train/rows/data.js'
import { notedOn } from '../help.js'
import type { Output } from '../output.js'
import { inspectRows } from './dataset.js'
import type { Inspection } from './inspection.js'

export async function inspectConfig(
  path: string,
  { set, rows, row }: { set?: string[]; rows?: number; row?: number },
  output: Output,
): Promise<Inspection> {
  const config = await withLabels(await loadConfig(path, set, notedOn(output)))
  const { dataset, model, revision, task } = config
  const options = encodeOptions(dataset, config, Date.now())
  const tokens = { model, revision, encoding: await withTemplateFile(options) }
  const rewarded = taskRules(task).samplesAnswers
  return inspectRows({ path: dataset.path, form: options, tokens, rows, row, rewarded }, output)
}
