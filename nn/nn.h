#pragma once
/// All of nn.

#include "solvent/nn/activation.h"
#include "solvent/nn/checkpoint.h"
#include "solvent/nn/elman.h"
#include "solvent/nn/functional.h"
#include "solvent/nn/gru.h"
#include "solvent/nn/init.h"
#include "solvent/nn/layer_norm.h"
#include "solvent/nn/linear.h"
#include "solvent/nn/mlp.h"
#include "solvent/nn/optim/adam.h"
#include "solvent/nn/optim/adamw.h"
#include "solvent/nn/optim/clip.h"
#include "solvent/nn/optim/schedule.h"
#include "solvent/nn/optim/sgd.h"
