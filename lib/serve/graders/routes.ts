/** Graders that people try before a job has them. */
import * as z from 'zod'
import { checked } from '../errors.js'
import { graded } from './grade.js'
import { graderOf } from './grader.js'

const validateSchema = z.strictObject({ grader: z.unknown() })
const runSchema = z.strictObject({
  grader: z.unknown(),
  model_sample: z.string({ error: 'expected the text of an answer' }),
  item: z.record(z.string(), z.unknown(), { error: 'expected an object' }).nullish(),
})

/** @throws {ApiError} for a grader that this server cannot have */
export function validateGrader(body: unknown): object {
  const { grader } = checked(validateSchema, body)
  graderOf(grader, ['grader'])
  return { grader }
}

/** @throws {ApiError} for a grader that this server cannot have */
export function runGrader(body: unknown): object {
  const { grader: given, model_sample: output, item } = checked(runSchema, body)
  const grader = graderOf(given, ['grader'])
  const begun = performance.now()
  const { reward, parts, problems } = graded(grader, { output, item: item ?? {} })
  const has = (kind: string) => problems.some((problem) => problem.kind === kind)
  const { name, type } = grader
  return {
    reward,
    sub_rewards: parts,
    metadata: {
      ...{ name, type },
      errors: {
        formula_parse_error: false,
        sample_parse_error: has('sample_parse_error'),
        truncated_observation_error: false,
        unresponsive_reward_error: false,
        invalid_variable_error: has('invalid_variable_error'),
        other_error: has('other_error'),
        ...{ python_grader_server_error: false, python_grader_server_error_type: null },
        ...{ python_grader_runtime_error: false, python_grader_runtime_error_details: null },
        ...{ model_grader_server_error: false, model_grader_refusal_error: false },
        ...{ model_grader_parse_error: false, model_grader_server_error_details: null },
      },
      execution_time: (performance.now() - begun) / 1000,
      scores: { [name]: reward, ...parts },
      ...{ token_usage: null, sampled_model_name: null },
    },
    model_grader_token_usage_per_model: {},
    ...(problems.length === 0 ? {} : { lowrank: { problems: problems.map(({ message }) => message) } }),
  }
}
