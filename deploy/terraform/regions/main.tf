# One region of the canary account beside us-east-1: call it once for each, with that region's provider.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.40"
    }
  }
}

variable "name" {
  description = "How the stack is called."
  type        = string
}

variable "forward_role" {
  description = "ForwardRole of the other module's outputs."
  type        = string
}

variable "canary_users" {
  description = "The same as there."
  type        = string
  default     = ""
}

resource "aws_cloudformation_stack" "region" {
  name          = var.name
  template_body = file("${path.module}/../../cloudformation/regions.yaml")
  parameters = {
    ForwardRole = var.forward_role
    CanaryUsers = var.canary_users
  }
}
