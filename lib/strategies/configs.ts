/** Options of the strategies. Written by `node scripts/options.mjs`. */

/** Options of a strategy: plain frozen data that can be written as JSON and parsed back. */
export interface StrategyConfig {
  readonly name: string
}

/** Clients of a private training run: identified by a column, or simulated by partitioning the rows. */
export interface ClientsConfig {
  /**
   * Column that identifies the client of a row; for a `dirichlet` partition, the column with the label. Default null.
   */
  readonly column: string | null
  /**
   * Assign rows to simulated clients instead: `iid` at random; `dirichlet` by shares drawn for each label. Default
   * null.
   */
  readonly partition: 'iid' | 'dirichlet' | null
  /** With a partition: number of clients. Default null. */
  readonly count: number | null
  /** With `dirichlet`: concentration. Large values make clients similar, small ones different. Default null. */
  readonly alpha: number | null
}

/** Options of LoRA (arXiv 2106.09685). */
export interface LoraConfig extends StrategyConfig {
  readonly name: 'lora'
  /** Rank. The memory of the adapter grows with it. Default 8. */
  readonly r: number
  /** The adapter's output is scaled by `loraAlpha / r`. Default 8. */
  readonly loraAlpha: number
  /** Dropout on the adapter's input, in training only. Default 0. */
  readonly loraDropout: number
  /**
   * Modules to adapt. A name matches the end of a module's path after a dot; a regular expression must match the whole
   * path. Default `all-linear`.
   */
  readonly targetModules: string | readonly string[]
  /** Modules to exclude. Default null. */
  readonly excludeModules: string | readonly string[] | null
  /** Adapt only these layers, counted from 0. Default null. */
  readonly layersToTransform: number | readonly number[] | null
  /** Ranks of modules whose path ends in the pattern; the first match counts. Default {}. */
  readonly rankPattern: Readonly<Record<string, number>>
  /** Values of `loraAlpha` for modules whose path ends in the pattern; the first match counts. Default {}. */
  readonly alphaPattern: Readonly<Record<string, number>>
  /** Scale by `loraAlpha / sqrt(r)` instead (arXiv 2312.03732). Default false. */
  readonly useRslora: boolean
  /**
   * `true`: A uniform as in PEFT, B zero, so the model starts unchanged. `gaussian`: A normal with standard deviation 1
   * / r, B zero. `false`: both uniform, for debugging. From the weight: `pissa`, its largest singular values;
   * `pissa_niter_4`, the same, faster and less exact; `olora`, its QR factorization; `loftq`, its quantization error.
   * Default true.
   */
  readonly initLoraWeights: boolean | 'gaussian' | 'pissa' | 'olora' | 'loftq' | `pissa_niter_${number}`
  /**
   * Modules to train in full, as copies saved with the adapter, such as `lm_head`, `embed_tokens`, or norms. A name
   * matches every module whose path ends in it. Default null.
   */
  readonly modulesToSave: readonly string[] | null
  /** Biases of the base to train: `all`, or `lora_only` for those of adapted linears. Default `none`. */
  readonly bias: 'none' | 'all' | 'lora_only'
}

/** Options of `lora()`. */
export type LoraOptions = Partial<Omit<LoraConfig, 'name'>>

/** Options of LoHa (arXiv 2108.06098). */
export interface LohaConfig
  extends StrategyConfig,
    Pick<LoraConfig, 'targetModules' | 'excludeModules' | 'layersToTransform' | 'rankPattern'> {
  readonly name: 'loha'
  /** Rank of each of the two products; their Hadamard product has rank up to `r²`. Default 8. */
  readonly r: number
  /** The change of a weight is scaled by `alpha / r`. Default 8. */
  readonly alpha: number
  /** Probability of dropping an output row of the change, in training only; the others are rescaled. Default 0. */
  readonly rankDropout: number
  /** Probability of dropping the whole change of a linear, in training only. Default 0. */
  readonly moduleDropout: number
  /**
   * `true`: `w2_b` zero, the others uniform as in PEFT. `lycoris`: `w2_a` zero, the others normal. `false`: all
   * uniform, for debugging. Default true.
   */
  readonly initWeights: boolean | 'lycoris'
  /** Values of `alpha` for modules whose path ends in the pattern; the first match counts. Default {}. */
  readonly alphaPattern: Readonly<Record<string, number>>
}

/** Options of `loha()`. */
export type LohaOptions = Partial<Omit<LohaConfig, 'name'>>

/** Options of DyLoRA (arXiv 2210.07558). */
export interface DyloraConfig extends StrategyConfig, Omit<LoraConfig, 'name' | 'initLoraWeights'> {
  readonly name: 'dylora'
  /**
   * `true`: A uniform as in PEFT, B zero, so the model starts unchanged. `gaussian`: A normal with standard deviation 1
   * / r, B zero. `false`: both uniform, for debugging. Default true.
   */
  readonly initLoraWeights: boolean | 'gaussian'
  /** Freeze `A` at its initial values and train only `B`, as in LoRA-FA. Default false. */
  readonly freezeA: boolean
  /**
   * Ranks trained by a step that uses the first b ranks: `active`, all b; `last`, only rank b, as in the authors'
   * script. Default `active`.
   */
  readonly trainedRanks: 'last' | 'active'
  /** Distribution of b: `uniform` from 1 to `r`, or a list of `r` weights. Default `uniform`. */
  readonly rankDistribution: 'uniform' | readonly number[]
  /**
   * Keep the ranks that a step does not train unchanged. `false`: weight decay and momentum change them, as in the
   * authors' code. Default true.
   */
  readonly maskedUpdate: boolean
}

/** Options of `dylora()`. */
export type DyloraOptions = Partial<Omit<DyloraConfig, 'name'>>

/** Options of AdaLoRA (arXiv 2303.10512). */
export interface AdaloraConfig
  extends StrategyConfig,
    Pick<LoraConfig, 'loraDropout' | 'targetModules' | 'excludeModules' | 'layersToTransform'> {
  readonly name: 'adalora'
  /** Initial rank of every linear. Default 12. */
  readonly initR: number
  /** Mean rank of the linears at the end; at most `initR`. Default 8. */
  readonly targetR: number
  /** Steps before the first rank is pruned. Default: a tenth of the run. */
  readonly tinit: number | null
  /** Steps at the end without pruning. Default: three tenths of the run. */
  readonly tfinal: number | null
  /** Steps between two allocations of ranks (`deltaT` in PEFT). Default 1. */
  readonly deltaT: number
  /** Decay rate of the moving average of the sensitivity. Default 0.85. */
  readonly beta1: number
  /** Decay rate of the moving average of the uncertainty. Default 0.85. */
  readonly beta2: number
  /** Weight of the regularizer that keeps `A` and `B` close to orthogonal, in training only. 0 is off. Default 0.5. */
  readonly orthRegWeight: number
  /** The adapter's output is scaled by `loraAlpha / initR`, for any remaining rank. Default 8. */
  readonly loraAlpha: number
  /** The remaining ranks; written by training. Default {}. */
  readonly rankPattern: Readonly<Record<string, readonly boolean[]>>
}

/** Options of `adalora()`. */
export type AdaloraOptions = Partial<Omit<AdaloraConfig, 'name'>>

/** Options of LoRA-FA (arXiv 2308.03303). */
export interface LoraFaConfig extends StrategyConfig, Omit<LoraConfig, 'name'> {
  readonly name: 'lora-fa'
  /**
   * Replace the gradient of `B` by `dB (A Aᵀ + 1e-8 I)⁻¹ / s²` before each update, so that the weight moves as closely
   * along the full gradient as `A` allows (the paper's second version, and PEFT's optimizer). `false`: the plain
   * gradient of the first version. Default true.
   */
  readonly projectGradient: boolean
}

/** Options of `loraFa()`. */
export type LoraFaOptions = Partial<Omit<LoraFaConfig, 'name'>>

/** Options of Delta-LoRA (arXiv 2309.02411). */
export interface DeltaLoraConfig
  extends StrategyConfig,
    Omit<LoraConfig, 'name' | 'loraDropout' | 'initLoraWeights'> {
  readonly name: 'delta-lora'
  /** Must be 0, because the weight moves by the full product. Default 0. */
  readonly loraDropout: 0
  /**
   * `true`: A uniform as in PEFT, B zero, so the model starts unchanged. `gaussian`: A normal with standard deviation 1
   * / r, B zero. `false`: both uniform, for debugging. Default true.
   */
  readonly initLoraWeights: boolean | 'gaussian'
  /** Change of the weight per change of `s B A` (λ in the paper). Default 2. */
  readonly lambda: number
  /** The weight moves in every step after this one, counted from 0; -1: from the first (K in the paper). Default 0. */
  readonly startStep: number
}

/** Options of `deltaLora()`. */
export type DeltaLoraOptions = Partial<Omit<DeltaLoraConfig, 'name'>>

/** Options of LoKr (arXiv 2309.14859). */
export interface LokrConfig
  extends StrategyConfig,
    Pick<LoraConfig, 'targetModules' | 'excludeModules' | 'layersToTransform' | 'rankPattern'> {
  readonly name: 'lokr'
  /** Rank of a factorized side. A side is factorized if the rank is below half of its larger dimension. Default 8. */
  readonly r: number
  /** The change of a weight is scaled by `alpha / r`. Default 8. */
  readonly alpha: number
  /** Factorize the first side too, if `r` is small enough. Default false. */
  readonly decomposeBoth: boolean
  /**
   * Split of a dimension: `-1` near its square root; `n` into `n` and the rest if it divides, otherwise the nearest
   * split whose smaller part is at most `n`. Default -1.
   */
  readonly decomposeFactor: number
  /** Probability of dropping an output row of the change, in training only. Default 0. */
  readonly rankDropout: number
  /** Rescale the remaining rows. Default false. */
  readonly rankDropoutScale: boolean
  /** Probability of dropping the whole change of a linear, in training only. Default 0. */
  readonly moduleDropout: number
  /**
   * `true`: the first side zero, the second uniform, as in PEFT. `lycoris`: the second zero, the first uniform.
   * `false`: all uniform, for debugging. Default true.
   */
  readonly initWeights: boolean | 'lycoris'
  /** Values of `alpha` for modules whose path ends in the pattern; the first match counts. Default {}. */
  readonly alphaPattern: Readonly<Record<string, number>>
}

/** Options of `lokr()`. */
export type LokrOptions = Partial<Omit<LokrConfig, 'name'>>

/** Options of VeRA (arXiv 2310.11454). */
export interface VeraConfig
  extends StrategyConfig,
    Pick<LoraConfig, 'targetModules' | 'excludeModules' | 'layersToTransform'> {
  readonly name: 'vera'
  /** Rank of the shared matrices. Adds arithmetic, but only one trained parameter per linear and rank. Default 256. */
  readonly r: number
  /** Initial value of the vector d. Default 0.1. */
  readonly dInitial: number
  /** Seed of the shared matrices. Default 0. */
  readonly projectionPrngKey: number
  /**
   * Save the shared matrices with the vectors. Without them the file is small, and readers draw them again from the
   * key. Default true.
   */
  readonly saveProjection: boolean
  /** Dropout on the adapter's input, in training only. Default 0. */
  readonly veraDropout: number
}

/** Options of `vera()`. */
export type VeraOptions = Partial<Omit<VeraConfig, 'name'>>

/** Options of LoRA-drop (arXiv 2402.07721). */
export interface LoraDropConfig extends StrategyConfig, Omit<LoraConfig, 'name' | 'initLoraWeights'> {
  readonly name: 'lora-drop'
  /**
   * `true`: A uniform as in PEFT, B zero, so the model starts unchanged. `gaussian`: A normal with standard deviation 1
   * / r, B zero. `false`: both uniform, for debugging. Default true.
   */
  readonly initLoraWeights: boolean | 'gaussian'
  /** Freeze `A` at its initial values and train only `B`, as in LoRA-FA. Default false. */
  readonly freezeA: boolean
  /** With `freezeA`, project `B`'s gradient by `A` before each update, as in LoRA-FA. Default true. */
  readonly projectGradient: boolean
  /** Share of a group's importance covered by the linears that keep their own pair. 1 keeps all. Default 0.9. */
  readonly threshold: number
  /** Share of the training data used by the probe. Default 0.1. */
  readonly sampleFraction: number
  /** Optimizer steps of the probe. Default: one pass over its sample. */
  readonly probeSteps: number | null
  /** Unit of comparison: linears of the same name, or whole layers. Default `type`. */
  readonly scope: 'type' | 'layer'
  /** Linears that keep their own pair, as found by a probe. Default: run a probe first. */
  readonly keep: readonly string[] | null
  /** Share of its group's importance that the probe found for each linear. Only a record. Default: none. */
  readonly importances: Readonly<Record<string, number>> | null
}

/** Options of `loraDrop()`. */
export type LoraDropOptions = Partial<Omit<LoraDropConfig, 'name'>>

/** Options of DoRA (arXiv 2402.09353). */
export interface DoraConfig extends StrategyConfig, Omit<LoraConfig, 'name' | 'initLoraWeights' | 'bias'> {
  readonly name: 'dora'
  /**
   * `true`: A uniform as in PEFT, B zero, so the model starts unchanged. `gaussian`: A normal with standard deviation 1
   * / r, B zero. `false`: both uniform, for debugging. Default true.
   */
  readonly initLoraWeights: boolean | 'gaussian'
  /** Biases of the base stay frozen. Default `none`. */
  readonly bias: 'none'
  /** Freeze `A` at its initial values and train only `B`, as in LoRA-FA. Default false. */
  readonly freezeA: boolean
  /** With `freezeA`, project `B`'s gradient by `A` before each update, as in LoRA-FA. Default true. */
  readonly projectGradient: boolean
}

/** Options of `dora()`. */
export type DoraOptions = Partial<Omit<DoraConfig, 'name'>>

/** Options of MiSS (arXiv 2409.15371). */
export interface MissConfig
  extends StrategyConfig,
    Pick<LoraConfig, 'targetModules' | 'excludeModules' | 'layersToTransform'> {
  readonly name: 'miss'
  /**
   * Number of input columns in a block, which is also the rank; at most the width of every adapted linear. Default 64.
   */
  readonly r: number
  /** Dropout on the adapter's input, in training only. Default 0. */
  readonly missDropout: number
  /** `true`: the matrix starts at zero. `false`: random start (uniform, as in PEFT), for debugging. Default true. */
  readonly initWeights: boolean
}

/** Options of `miss()`. */
export type MissOptions = Partial<Omit<MissConfig, 'name'>>

/** Options of OFT (arXiv 2506.19847). */
export interface OftConfig
  extends StrategyConfig,
    Pick<LoraConfig, 'targetModules' | 'excludeModules' | 'layersToTransform'> {
  readonly name: 'oft'
  /**
   * Number of input columns that each block rotates. If it does not divide a linear's width, the nearest size that does
   * is used. Default 32.
   */
  readonly oftBlockSize: number
  /** Use one rotation for all blocks of a linear. Default false. */
  readonly blockShare: boolean
  /**
   * Number of terms of the Cayley-Neumann series, counted as in PEFT. More terms come closer to an orthogonal matrix.
   * Default 5.
   */
  readonly numCayleyNeumannTerms: number
  /**
   * `true`: start without a rotation. `false`: random start (normal, standard deviation 0.1), for debugging. Default
   * true.
   */
  readonly initWeights: boolean
}

/** Options of `oft()`. */
export type OftOptions = Partial<Omit<OftConfig, 'name'>>

/** Options of HiRA (OpenReview TwJrTz9cRS). */
export interface HiraConfig
  extends StrategyConfig,
    Pick<LoraConfig, 'targetModules' | 'excludeModules' | 'layersToTransform'> {
  readonly name: 'hira'
  /** Rank of the matrix that the weight is multiplied by, element by element. Default 32. */
  readonly r: number
  /** Dropout on the adapter's input, in training only. Default 0. */
  readonly hiraDropout: number
  /**
   * `true`: B zero, A uniform as in LoRA. `gaussian`: B zero, A normal with standard deviation `1 / r`. `false`: both
   * normal, for debugging. Default true.
   */
  readonly initWeights: boolean | 'gaussian'
}

/** Options of `hira()`. */
export type HiraOptions = Partial<Omit<HiraConfig, 'name'>>

/** Options of LoRA+ (arXiv 2402.12354). */
export interface LoraPlusConfig extends StrategyConfig {
  readonly name: 'lora-plus'
  /** Strategy whose parameters are trained. Default `lora()`. */
  readonly adapter: StrategyConfig
  /**
   * Learning rate of `B` divided by the one of `A`. The paper's script for RoBERTa uses 80, its README 20. Default 16.
   */
  readonly loraplusLrRatio: number
  /** Learning rate of `A` and `B` of an adapted embedding. Default 0.000001. */
  readonly loraplusLrEmbedding: number
}

/** Options of `loraPlus()`. */
export type LoraPlusOptions = Partial<Omit<LoraPlusConfig, 'name'>>

/** Options of DP-DyLoRA (arXiv 2405.06368). */
export interface DpDyloraConfig extends StrategyConfig {
  readonly name: 'dp-dylora'
  /** Default `dylora()`. */
  readonly adapter: StrategyConfig
  /** The protected unit: a client with all its rows, or one example (DP-SGD). Default `user`. */
  readonly privacyUnit: 'user' | 'example'
  /** The clients, if `privacyUnit` is `client`. Default null. */
  readonly clients: ClientsConfig | null
  /**
   * Limit of the privacy loss. Without `noiseMultiplier`, the noise is chosen to reach it in `rounds`. Default null.
   */
  readonly targetEpsilon: number | null
  /** Standard deviation of the noise on the sum, as a multiple of `clippingNorm`. Default null. */
  readonly noiseMultiplier: number | null
  /** Probability with which the guarantee may fail; below 1 / clients. `null`: a tenth of that. */
  readonly delta: number | null
  /** Number of updates. `null`, with both `targetEpsilon` and `noiseMultiplier`: as many as they allow. */
  readonly rounds: number | null
  /**
   * Expected number of clients (or examples) per round; each is sampled independently, so the number varies. Default
   * 16.
   */
  readonly cohort: number
  /** L2 norm, over all trained parameters, to which contributions are clipped. Default 1. */
  readonly clippingNorm: number
  /** With clients: passes over their data per round. Default 1. */
  readonly localEpochs: number
  /** With clients: maximum optimizer steps per round. Default null. */
  readonly localSteps: number | null
  /**
   * With clients: optimizer that applies the mean of their changes. `sgd` at rate 1 adds it; `adam` has betas 0.9 and
   * 0.99, eps 1e-3. Default `sgd`.
   */
  readonly serverOptimizer: 'sgd' | 'adam'
  /** With clients: learning rate of the server optimizer. Default 1. */
  readonly serverLearningRate: number
  /**
   * Train on small cohorts with the noise of large cohorts from a large population. Estimates the accuracy of such
   * training; the result is not private. Default null.
   */
  readonly simulation: { readonly population: number; readonly cohort: number } | null
  /** A known key, for tests. The result is not private. Default null. */
  readonly noiseKey: string | null
}

/** Options of `dpDylora()`. */
export type DpDyloraOptions = Partial<Omit<DpDyloraConfig, 'name' | 'clients'>> & {
  clients?: Partial<ClientsConfig> | null
}

/** Options of QLoRA (arXiv 2305.14314). */
export interface QloraConfig extends StrategyConfig {
  readonly name: 'qlora'
  /** The adapter on top of the 4-bit base, with its own options. Default `lora()`. */
  readonly adapter: StrategyConfig
}

/** Options of `qlora()`. */
export type QloraOptions = Partial<Omit<QloraConfig, 'name'>>

/** Options of Full fine-tuning. */
export interface FullConfig extends StrategyConfig {
  readonly name: 'full'
}
